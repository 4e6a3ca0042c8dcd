"""Operators between quantizers, many in one file: what the target says of them is what XNNPACK runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

from fewbit.targets import get_target
from tests.formats.executorch.running import agreement, feed_of, nodes, written
from tests.formats.litert.write.quantizing import quantized
from tests.graph.build import model, node

LEAST = 60.0

_W = np.random.default_rng(1)
CONSTANTS: dict[str, np.ndarray] = {
    "w": _W.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "d": _W.normal(size=(3, 1, 3, 3)).astype(np.float32),
    "t": _W.normal(size=(3, 4, 2, 2)).astype(np.float32),
    "b": _W.normal(size=4).astype(np.float32),
    "m": _W.normal(size=(8, 6)).astype(np.float32),
    "v": _W.normal(size=(192, 5)).astype(np.float32),
    "c": _W.normal(size=(1, 3, 1, 1)).astype(np.float32),
    "flat": np.array([1, 192]),
    "starts": np.array([2]),
    "ends": np.array([7]),
    "axis": np.array([3]),
    "first": np.array([0]),
    "low": np.float32(-0.7),
    "high": np.float32(1.9),
}

INTEGER: dict[str, tuple[list[str], dict[str, object], dict[str, int]]] = {
    "Conv": (["x", "w", "b"], {"pads": [1, 1, 1, 1]}, {"Conv2d int8 · int8": 1}),
    "Conv.depthwise": (["x", "d"], {"group": 3}, {"DepthwiseConv2d int8 · int8": 1}),
    "ConvTranspose": (["x", "t"], {"strides": [2, 2]}, {"ConvTranspose2d int8 · int8": 1}),
    "MatMul": (["x", "m"], {}, {"FullyConnected int8 · int8": 1}),
    "Add": (["x", "z"], {}, {"Add int8": 1}),
    "Add.constant": (["x", "c"], {}, {"Add int8": 1}),
    "Sub": (["x", "z"], {}, {"Subtract int8": 1}),
    "Mul": (["x", "z"], {}, {"Multiply int8": 1}),
    "Concat": (["x", "z"], {"axis": 1}, {"Concatenate2 int8": 1}),
    "MaxPool": (["x"], {"kernel_shape": [2, 2], "strides": [2, 2]}, {"MaxPooling2d int8": 1}),
    "Relu": (["x"], {}, {"Clamp int8": 1}),
    "Clip": (["x", "low", "high"], {}, {"Clamp int8": 1}),
    "GlobalAveragePool": (["x"], {}, {"GlobalAvgPooling2d int8": 1}),
    "Reshape": (["x", "flat"], {}, {"StaticReshape int8": 1}),
    "Flatten": (["x"], {}, {"StaticReshape int8": 1}),
    "Transpose": (["x"], {"perm": [0, 2, 3, 1]}, {"StaticTranspose int8": 1}),
    "Slice": (["x", "starts", "ends", "axis"], {}, {"StaticSlice int8": 1}),
    "Squeeze": (["x", "first"], {}, {"StaticReshape int8": 1}),
    "Unsqueeze": (["x", "first"], {}, {"StaticReshape int8": 1}),
}
"""Operator → inputs, attributes, and what XNNPACK runs for it."""

FLOAT: dict[str, tuple[list[str], dict[str, object], dict[str, int]]] = {
    "Sigmoid": (["x"], {}, {"Sigmoid float32": 1}),
    "Tanh": (["x"], {}, {"Tanh float32": 1}),
    "Softmax": (["x"], {}, {"Softmax float32": 1}),
    "HardSwish": (["x"], {}, {"Hardswish float32": 1}),
    "LeakyRelu": (["x"], {}, {"LeakyReLU float32": 1}),
    "AveragePool": (["x"], {"kernel_shape": [2, 2]}, {"AvgPooling2d float32": 1}),
    "Max": (["x", "z"], {}, {"Maximum float32": 1}),
    "Min": (["x", "z"], {}, {"Minimum float32": 1}),
    "Gelu": (["x"], {}, {"Gelu float32": 1}),
    "Gelu.tanh": (["x"], {"approximate": "tanh"}, {"Tanh float32": 1}),
}


def branches(ops: dict[str, tuple[list[str], dict[str, object], dict[str, int]]]) -> onnx.ModelProto:
    """Every operator on its own inputs of the same two tensors, with an output of its name."""
    made = []
    for name, (inputs, attributes, _) in ops.items():
        copies = []
        for value in inputs:
            if value in ("x", "z"):  # a scale of its own before each: what is moved has to be requantized or not
                made.append(
                    node(
                        "Mul" if name in ("Concat", "Slice") else "Identity", _scaled(value, name), [f"{value}_{name}"]
                    )
                )
                copies.append(f"{value}_{name}")
            else:
                copies.append(value)
        made.append(node(name.split(".")[0], copies, [name], **attributes))
    constants = CONSTANTS | {"third": np.float32(1 / 3)}
    read = {name for n in made for name in n.input}
    return model(
        made,
        ["x:f[1,3,8,8]", "z:f[1,3,8,8]"],
        [f"{name}:f" for name in ops],
        {name: array for name, array in constants.items() if name in read},
        opset=20,
        ir_version=10,
    )


def _scaled(value: str, name: str) -> list[str]:
    return [value, "third"] if name in ("Concat", "Slice") else [value]


@pytest.mark.parametrize("ops", [INTEGER, FLOAT], ids=["integer", "float"])
def test_operators(ops: dict[str, tuple[list[str], dict[str, object], dict[str, int]]]) -> None:
    float_form = branches(ops)
    feed = feed_of(float_form)
    form = quantized(float_form, feed, same=False, fixed=False)
    result = written(form)
    for name, db in agreement(form, result.data, feed).items():
        assert db >= LEAST, (name, db)
    wanted: Counter[str] = Counter()
    for _, _, kernels in ops.values():
        wanted.update(kernels)
    found = nodes(result.data)
    assert {op: found[op] for op in wanted if found[op] < wanted[op]} == {}, found
    assert not result.notes


def test_the_target_says_so() -> None:
    target = get_target("executorch-xnnpack")
    narrow = {"integer", "passthrough", "dynamic"}
    for name in INTEGER:
        assert narrow & set(target.rule(name.split(".")[0]).forms), name
    for name in FLOAT:
        assert not target.rule(name.split(".")[0]).forms, name
    listed = {op for op, rule in target.ops.items() if {"integer", "passthrough"} & set(rule.forms)}
    assert listed - {name.split(".")[0] for name in INTEGER} == {"Gemm", "Split", "Identity"}
