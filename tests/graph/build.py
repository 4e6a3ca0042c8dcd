"""Small models for the tests of the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.save import to_bytes

node = helper.make_node
rng = np.random.default_rng(0)

_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL, "s": TensorProto.STRING}


def info(text: str) -> onnx.ValueInfoProto:
    """`x:f[N,3,?]` is a float tensor; `x:f` has no shape; types are f, i, b, s."""
    match = re.fullmatch(r"(.+):([fibs])(?:\[(.*)\])?", text)
    if match is None:
        raise ValueError(text)
    dims = None
    if match[3] is not None:
        dims = [None if d == "?" else int(d) if d.isdigit() else d for d in match[3].split(",") if d]
    return helper.make_tensor_value_info(match[1], _TYPES[match[2]], dims)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Any] | None = None,
    name: str = "g",
) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes),
        name,
        [info(i) if isinstance(i, str) else i for i in inputs],
        [info(o) if isinstance(o, str) else o for o in outputs],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in (constants or {}).items()],
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    return helper.make_model(
        graph(nodes, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)],
        ir_version=ir_version,
        functions=list(functions),
    )


def weights(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def run(source: onnx.ModelProto | Hub, feed: Mapping[str, np.ndarray]) -> list[Any]:
    data = to_bytes(source.model) if isinstance(source, Hub) else source.SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, dict(feed))


def kinds(hub: Hub) -> list[str]:
    return [n.op_type for n in hub.nodes()]


def normalized(source: onnx.ModelProto, *feeds: Mapping[str, np.ndarray], tolerance: float = 1e-5) -> Hub:
    """The normalized hub, after checking that it computes what the model does and that normalizing again changes
    nothing."""
    hub = load(source)
    for feed in feeds:
        for before, after in zip(run(source, feed), run(hub, feed), strict=True):
            assert_same(before, after, tolerance)
    again = load(hub)
    assert [(o.rule, o.node) for o in again.log[len(hub.log) :] if o.applied] == []
    assert again.fingerprint() == hub.fingerprint()
    return hub


def assert_same(before: Any, after: Any, tolerance: float) -> None:
    if isinstance(before, list):
        assert isinstance(after, list) and len(before) == len(after)
        for a, b in zip(before, after, strict=True):
            assert_same(a, b, tolerance)
        return
    assert before.shape == after.shape
    assert before.dtype == after.dtype
    if before.dtype.kind == "f":
        scale = float(np.abs(before).max(initial=0.0))
        assert np.abs(before - after).max(initial=0.0) <= tolerance * scale
    else:
        assert (before == after).all()


def declined(hub: Hub, rule: str) -> list[str]:
    return [o.reason for o in hub.log if o.rule == rule and not o.applied]
