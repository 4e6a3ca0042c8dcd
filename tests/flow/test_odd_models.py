"""Models unlike those that tools are written for: each must come through, run in the runtime and keep its outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit
from fewbit.runtimes.verify import kernels
from tests.flow.test_quantize import normal, sqnr_of
from tests.models import Builder

Shape = tuple[int | str, ...]


def two_convs(middle: Callable[[Builder, str], str]) -> Callable[[Builder], object]:
    def build(b: Builder) -> object:
        hidden = b.node("Conv", ["x", b.weight(16, 8, 3, 3), b.weight(16)], pads=[1, 1, 1, 1])
        return b.node("Conv", [middle(b, hidden), b.weight(4, 16, 1, 1)], "y")

    return build


def one_dimension(b: Builder) -> object:
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(16, 8, 3)], pads=[1, 1])])
    return b.node("Conv", [hidden, b.weight(8, 16, 3)], "y")


def three_dimensions(b: Builder) -> object:
    hidden = b.node("Conv", ["x", b.weight(8, 3, 3, 3, 3)], pads=[1] * 6)
    return b.node("Conv", [hidden, b.weight(4, 8, 1, 1, 1)], "y")


def both_directions(b: Builder) -> object:
    inputs = ["x", b.weight(2, 128, 16), b.weight(2, 128, 32), b.weight(2, 256)]
    return b.node("LSTM", inputs, "y", hidden_size=32, direction="bidirectional")


def read_before_and_after_relu(b: Builder) -> object:
    plain = b.node("Conv", ["x", b.weight(16, 8, 1, 1)])
    return b.node("Conv", [b.node("Add", [plain, b.node("Relu", [plain])]), b.weight(4, 16, 1, 1)], "y")


def split_halves(b: Builder) -> object:
    b.node("Conv", ["x", b.weight(16, 8, 1, 1)], "c")
    b.nodes.append(onnx.helper.make_node("Split", ["c"], ["a", "b"], "split", axis=1))
    both = b.node("Concat", [b.node("Relu", ["a"]), "b"], axis=1)
    return b.node("Conv", [both, b.weight(4, 16, 1, 1)], "y")


def transposed(b: Builder) -> object:
    up = b.node("ConvTranspose", ["x", b.weight(8, 16, 4, 4)], strides=[2, 2])
    return b.node("Conv", [up, b.weight(4, 16, 3, 3)], "y")


def negative_factor(b: Builder, value: str) -> str:
    return b.node(
        "Mul", [b.node("Add", [value, b.constant(np.float32(0.5))]), b.constant(np.array([-2.0], np.float32))]
    )


IMAGE: Shape = ("N", 8, 10, 10)
CASES: dict[str, tuple[Callable[[Builder], object], Shape, dict[str, int]]] = {
    "1-d convolution": (one_dimension, ("N", 8, 32), {"QLinearConv": 2}),
    "3-d convolution": (three_dimensions, (1, 3, 6, 6, 6), {"QLinearConv": 2}),
    "transposed convolution": (transposed, IMAGE, {"QLinearConv": 1}),
    "bidirectional LSTM": (both_directions, (5, 1, 16), {"DynamicQuantizeLSTM": 1}),
    "GRU": (
        lambda b: b.node("GRU", ["x", b.weight(1, 96, 16), b.weight(1, 96, 32)], "y", hidden_size=32),
        (5, 1, 16),
        {},
    ),
    "value read before and after Relu": (read_before_and_after_relu, IMAGE, {"QLinearConv": 2, "QLinearAdd": 1}),
    "split and concatenated": (split_halves, IMAGE, {"QLinearConv": 2}),
    "leaky and averaged": (
        two_convs(lambda b, v: b.node("AveragePool", [b.node("LeakyRelu", [v])], kernel_shape=[2, 2])),
        IMAGE,
        {"QLinearConv": 2, "QLinearLeakyRelu": 1, "QLinearAveragePool": 1},
    ),
    "PRelu between": (two_convs(lambda b, v: b.node("PRelu", [v, b.weight(16, 1, 1)])), IMAGE, {"QLinearConv": 2}),
    "scaled by a negative number": (two_convs(negative_factor), IMAGE, {"QLinearConv": 2}),
    "batched MatMul": (
        lambda b: b.node("MatMul", ["x", b.weight(2, 16, 32)], "y"),
        (2, 4, 16),
        {"MatMulIntegerToFloat": 1},
    ),
    "constant on the left": (lambda b: b.node("MatMul", [b.weight(32, 16), "x"], "y"), (16, 8), {}),
    "transposed Gemm": (
        lambda b: b.node("Gemm", ["x", b.weight(16, 32), b.weight(1, 32)], "y", transA=1, alpha=0.5),
        (16, 4),
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_int8(name: str, tmp_path: Path) -> None:
    build, shape, integer = CASES[name]
    b = Builder()
    build(b)
    model = b.save(tmp_path / "m.onnx", {"x": shape}, ["y"])
    feeds = normal(12, x=tuple(n if isinstance(n, int) else 2 for n in shape))
    fewbit.quantize(model, feeds, out=tmp_path / "q.onnx")
    found = kernels(tmp_path / "q.onnx")
    assert {k: v for k, v in found.integer.items() if k in integer} == integer
    assert sqnr_of(model, tmp_path / "q.onnx", feeds) > 28


@pytest.mark.parametrize("opset", [9, 11, 13, 18, 22])
def test_opsets(opset: int, tmp_path: Path) -> None:
    b = Builder()
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(64, 8, 3, 3)])])
    b.node("Conv", [hidden, b.weight(4, 64, 1, 1)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": (1, 8, 10, 10)}, ["y"], opset=opset)
    feeds = normal(8, x=(1, 8, 10, 10))
    for recipe in ("int8", "int8-dynamic", "fp16", "a16w8"):
        fewbit.quantize(model, feeds, recipe, out=tmp_path / "q.onnx")
        assert sqnr_of(model, tmp_path / "q.onnx", feeds) > 30, recipe


def test_images_of_changing_size(tmp_path: Path) -> None:
    b = Builder()
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(16, 8, 3, 3)], pads=[1, 1, 1, 1])])
    b.node("Conv", [hidden, b.weight(4, 16, 1, 1)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 8, "H", "W")}, ["y"])
    feeds = normal(6, x=(1, 8, 8, 8)) + normal(6, x=(1, 8, 12, 9))
    fewbit.quantize(model, feeds, out=tmp_path / "q.onnx")
    assert sqnr_of(model, tmp_path / "q.onnx", feeds) > 30


def test_products_inside_of_a_condition_stay_in_float(tmp_path: Path) -> None:
    inner, other = Builder(seed=1), Builder()
    inner.node("MatMul", ["hidden", inner.weight(16, 16)], "kept")
    other.node("Identity", ["hidden"], "passed")
    branches = [
        onnx.helper.make_graph(made.nodes, name, [], [onnx.ValueInfoProto(name=name)], made.constants)
        for made, name in ((inner, "kept"), (other, "passed"))
    ]
    b = Builder()
    b.node("MatMul", ["x", b.weight(8, 16)], "hidden")
    b.node("If", [b.node("Greater", [b.node("ReduceMax", ["x"], keepdims=0), b.constant(np.float32(0))])], "chosen")
    for attribute, branch in zip(("then_branch", "else_branch"), branches, strict=True):
        b.nodes[-1].attribute.append(onnx.helper.make_attribute(attribute, branch))
    b.node("MatMul", ["chosen", b.weight(16, 4)], "y")
    path = b.save(tmp_path / "m.onnx", {"x": (1, 8)}, ["y"])
    samples = normal(32, x=(1, 8))
    made = fewbit.quantize(path, samples, "int8", out=tmp_path / "q.onnx")
    assert "inside of loops and conditions MatMul 1 stay in float: the main graph alone is quantized" in made.notes
    assert made.plan.forms()["integer"] == 2 and kernels(tmp_path / "q.onnx").float_heavy == {"MatMul": 1}


def test_channels_are_balanced_behind_an_operator_of_unknown_shape(tmp_path: Path) -> None:
    b = Builder()
    kept = b.node("Scaler", ["x"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    scaled = b.node("Cast", [kept], to=onnx.TensorProto.FLOAT)
    spread = b.constant(np.geomspace(1 / 30, 30, 32).astype(np.float32))
    hidden = b.node("Relu", [b.node("Mul", [b.node("MatMul", [scaled, b.weight(8, 32)]), spread])])
    back = b.random.standard_normal((32, 4)) / np.geomspace(1 / 30, 30, 32)[:, None]
    b.node("MatMul", [hidden, b.constant(back.astype(np.float32))], "y")
    proto = b.proto({"x": (1, 8)}, ["y"])
    proto.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(proto, tmp_path / "m.onnx")
    made = fewbit.quantize(tmp_path / "m.onnx", normal(32, x=(1, 8)), "int8", out=tmp_path / "q.onnx", min_sqnr=0)
    assert any(site.balance is not None for site in made.plan.edges().values())
    assert sqnr_of(tmp_path / "m.onnx", tmp_path / "q.onnx", normal(32, x=(1, 8))) > 20
