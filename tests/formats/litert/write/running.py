"""Run models and files written from them, and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from fewbit.graph.hub import Hub
from fewbit.graph.save import to_bytes
from fewbit.runtimes.onnxruntime import SIMULATION, open_session

Feed = Mapping[str, np.ndarray]
KINDS = ("AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
"""Interpreters: with XNNPACK, and with LiteRT's own kernels alone."""


def interpreter(data: bytes, kind: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made = Interpreter(model_content=data, experimental_op_resolver_type=getattr(OpResolverType, kind))
    made.allocate_tensors()
    return made


def run_file(data: bytes, feed: Feed, kind: str) -> dict[str, np.ndarray]:
    """The outputs by name; inputs are cast to the types of the file."""
    runner = interpreter(data, kind).get_signature_runner("serving_default")
    wanted = runner.get_input_details()
    given = {name: array.astype(wanted[name]["dtype"]) for name, array in feed.items()}
    return dict(runner(**given))


def run_model(model: onnx.ModelProto | Hub | bytes, feed: Feed) -> list[np.ndarray]:
    """ONNX Runtime, as the graph is written; quantizers are simulated."""
    data = model if isinstance(model, bytes) else None
    if data is None:
        data = to_bytes(model.model) if isinstance(model, Hub) else model.SerializeToString()
    return open_session(data, optimize=False, config=SIMULATION).run(dict(feed))


def kernels(data: bytes) -> Counter[str]:
    """How often each operator is in a file."""
    details = interpreter(data, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")._get_ops_details()
    return Counter(detail["op_name"] for detail in details)


def types_of(data: bytes) -> set[str]:
    """The element types of tensors that operators make."""
    made = interpreter(data, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")
    tensors = {t["index"]: t for t in made.get_tensor_details()}
    return {
        np.dtype(tensors[index]["dtype"]).name
        for op in made._get_ops_details()
        for index in op["outputs"]
        if index in tensors
    }


def relative(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference over the largest number."""
    if one.dtype == np.bool_ or not np.issubdtype(one.dtype, np.floating):
        return float(not np.array_equal(one.astype(np.int64), other.astype(np.int64)))
    scale = float(np.abs(other).max(initial=0.0)) or 1.0
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0)) / scale


def sqnr(real: np.ndarray, other: np.ndarray) -> float:
    """dB."""
    noise = float(((real.astype(np.float64) - other) ** 2).sum())
    return float("inf") if noise == 0.0 else 10 * np.log10(float((real.astype(np.float64) ** 2).sum()) / noise)


def one_sample(zoo: ModuleType, case: str) -> dict[str, np.ndarray]:
    """The first calibration sample of a case, at batch 1."""
    feed = next(iter(zoo.load(case).calibration()))
    return {name: np.asarray(array)[:1] for name, array in feed.items()}
