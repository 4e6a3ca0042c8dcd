"""A shifted graph computes what it did, for every kind of maker and reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.rewrites.shift_channels import apply, maker_of, refuse_reader
from tests.graph.build import run
from tests.models import Builder


def convolutions(path: Path, **attributes: object) -> Path:
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(6, 3, 1, 1), b.constant(np.full(6, 5.0, np.float32))])])
    b.node("Conv", [x, b.weight(4, 6 // int(str(attributes.get("group", 1))), 3, 3)], "y", **attributes)
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def products(path: Path) -> Path:
    """LayerNormalization → two MatMul with a bias → Gemm."""
    b = Builder()
    norm = b.node("LayerNormalization", ["x", b.weight(8), b.weight(8)], axis=-1)
    left, right = (b.node("Add", [b.node("MatMul", [norm, b.weight(8, 8)]), b.weight(8)]) for _ in range(2))
    flat = b.node("Reshape", [b.node("Add", [left, right]), b.constant(np.array([-1, 8]))])
    b.node("Gemm", [flat, b.weight(4, 8), b.weight(4)], "y", transB=1, beta=0.5, alpha=2.0)
    return b.save(path, {"x": ("N", 5, 8)}, ["y"])


def shifted(hub: Hub, op: str, index: int = 0) -> tuple[Hub, str]:
    """The first input of a node shifted, for all that read it."""
    copy = hub.clone()
    node = [n for n in copy.nodes() if n.op_type == op][index]
    value = node.inputs[0]
    assert value is not None
    channels = value.shape[1 if op == "Conv" else -1]  # type: ignore[index]
    names = [str(reader.name) for reader in value.consumers()]
    name = str(value.name)
    apply(copy, name, np.linspace(0.5, 1.5, int(channels)), names)
    return copy, name


def same(before: Hub, after: Hub, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    assert np.allclose(run(before, {"x": x})[0], run(after, {"x": x})[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attributes", [{}, {"group": 2}])
def test_a_relu_between_convolutions(tmp_path: Path, attributes: dict[str, object]) -> None:
    hub = load(convolutions(tmp_path / "m.onnx", **attributes))
    after, name = shifted(hub, "Conv", 1)
    same(hub, after, (2, 3, 8, 8))
    assert len(after.nodes()) == len(hub.nodes())
    assert name not in {str(v.name) for v in after.values()}, "another value may not keep the name of the old one"


def test_a_normalization_takes_the_shift(tmp_path: Path) -> None:
    hub = load(products(tmp_path / "m.onnx"))
    after, _ = shifted(hub, "MatMul")
    same(hub, after, (2, 5, 8))
    assert len(after.nodes()) == len(hub.nodes())


def test_what_has_no_bias_is_shifted_by_an_addition(tmp_path: Path) -> None:
    hub = load(products(tmp_path / "m.onnx"))
    after, name = shifted(hub, "Gemm")
    same(hub, after, (2, 5, 8))
    assert len(after.nodes()) == len(hub.nodes()) + 1
    assert name in {str(v.name) for v in after.values()}


@pytest.mark.parametrize(
    ("attributes", "reason"), [({"pads": [1, 1, 1, 1]}, "pads with zeros"), ({"auto_pad": "SAME_UPPER"}, "pads")]
)
def test_padding_is_refused(tmp_path: Path, attributes: dict[str, object], reason: str) -> None:
    hub = load(convolutions(tmp_path / "m.onnx", **attributes))
    node = hub.nodes()[-1]
    assert node.inputs[0] is not None
    assert reason in str(refuse_reader(hub, node, node.inputs[0]))


def test_readers_and_makers_without_a_bias_are_refused(tmp_path: Path) -> None:
    b = Builder()
    x = b.node("Sigmoid", ["x"])
    b.node("Relu", [b.node("MatMul", [x, b.weight(8, 8)])], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 5, 8)}, ["y"]))
    product = next(n for n in hub.nodes() if n.op_type == "MatMul")
    value = product.inputs[0]
    assert value is not None
    assert "no bias" in str(refuse_reader(hub, product, value))
    assert maker_of(hub, value, 8, last=True) is None
    assert "not constant" in str(refuse_reader(hub, hub.nodes()[-1], product.outputs[0]))
