"""Write models as ExecuTorch, run them, and compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from fewbit.formats.executorch.door import Written, convert
from fewbit.graph.load import load
from fewbit.runtimes.executorch import open_session
from fewbit.runtimes.executorch_ops import XNNPACK, executed_ops
from tests.formats.litert.write.running import run_model, sqnr

Feed = Mapping[str, np.ndarray]


def feed_of(model: onnx.ModelProto, seed: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}


def written(model: onnx.ModelProto, **options: Any) -> Written:
    return convert(load(model), **options)


def agreement(model: onnx.ModelProto, data: bytes, feed: Feed) -> dict[str, float]:
    """Output → dB of a file against the same graph as ONNX Runtime computes it, quantizers simulated."""
    session = open_session(data, probe=False)
    names = [value.name for value in model.graph.output]
    assert session.outputs == names and session.inputs == [value.name for value in model.graph.input]
    expected, made = run_model(model, feed), session.run(feed)
    assert [a.shape for a in expected] == [a.shape for a in made]
    return {name: sqnr(a, b) for name, a, b in zip(names, expected, made, strict=True)}


def nodes(data: bytes) -> Counter[str]:
    """`op dtypes` of what XNNPACK runs, and the names of what it does not."""
    counts: Counter[str] = Counter()
    for op in executed_ops(data).ops:
        counts[f"{op.op} {op.dtypes}" if op.where == XNNPACK else op.op] += op.count
    return counts
