"""A graph whose channels are scaled computes what it did, for every kind of maker; others decline with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewbit.errors import PlanError
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.rewrites.scale_channels import apply, find_makers, reader_weight
from tests.graph.build import run
from tests.models import Builder

MICROSOFT = "com.microsoft"
TIME, WIDTH = 4, 8  # as many positions as heads, so that shapes alone do not tell them apart


def layer_norm(b: Builder) -> str:
    return b.node("LayerNormalization", ["x", b.weight(WIDTH), b.weight(WIDTH)], axis=-1)


def layer_norm_without_bias(b: Builder) -> str:
    return b.node("LayerNormalization", ["x", b.weight(WIDTH)], axis=2)


def skip_layer_norm(b: Builder) -> str:
    inputs = ["x", b.node("Neg", ["x"]), b.weight(WIDTH), b.weight(WIDTH), b.weight(WIDTH)]
    return b.node("SkipLayerNormalization", inputs, domain=MICROSOFT)


def rms_norm(b: Builder) -> str:
    mean = b.node("ReduceMean", [b.node("Mul", ["x", "x"])], axes=[-1])
    root = b.node("Sqrt", [b.node("Add", [mean, b.constant(np.float32(1e-5))])])
    return b.node("Mul", [b.node("Div", ["x", root]), b.weight(WIDTH)])


def product(b: Builder) -> str:
    added = b.node("Add", [b.constant(np.float32(0.5)), b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)])])
    return b.node("Relu", [b.node("Add", [added, b.weight(WIDTH)])])


def gated(b: Builder) -> str:
    gate, up = (b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)]) for _ in range(2))
    return b.node("Mul", [b.node("Mul", [gate, b.node("Sigmoid", [gate])]), up])


def attention(b: Builder, order: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """Four heads of two channels, whose probabilities do not look at the values."""
    values = b.node("Add", [b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)]), b.weight(WIDTH)])
    split = b.node("Reshape", [values, b.constant(np.array([0, TIME, 4, 2]))])
    scores = b.constant(b.random.standard_normal((1, 4, TIME, TIME)).astype(np.float32))
    scores = b.node("Mul", [scores, b.node("ReduceMax", ["x"], axes=[1, 2], keepdims=0)])
    mixed = b.node("MatMul", [b.node("Softmax", [scores], axis=-1), b.node("Transpose", [split], perm=[0, 2, 1, 3])])
    return b.node("Reshape", [b.node("Transpose", [mixed], perm=order), b.constant(np.array([1, TIME, WIDTH]))])


def model(path: Path, make: Callable[[Builder], str], readers: int = 2, *, gemm: bool = False) -> Hub:
    b = Builder()
    value = make(b)
    if gemm:
        flat = b.node("Reshape", [value, b.constant(np.array([-1, WIDTH]))])
        value = b.node("Gemm", [flat, b.weight(WIDTH, WIDTH), b.weight(WIDTH)], alpha=2.0, beta=0.5)
        b.node("Gemm", [value, b.weight(6, WIDTH), b.weight(6)], "y0", transB=1, alpha=0.5)
        return load(b.save(path, {"x": (1, TIME, WIDTH)}, ["y0"]))
    for index in range(readers):
        b.node("MatMul", [value, b.weight(WIDTH, 6)], f"y{index}")
    proto = b.proto({"x": (1, TIME, WIDTH)}, [f"y{i}" for i in range(readers)])
    proto.opset_import.add(domain=MICROSOFT, version=1)
    path.write_bytes(proto.SerializeToString())
    return load(path)


def last_input(hub: Hub) -> str:
    return str(hub.graph.outputs[0].producer().inputs[0].name)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "make",
    [layer_norm, layer_norm_without_bias, skip_layer_norm, rms_norm, product, gated, attention],
    ids=lambda f: f.__name__,
)
def test_what_is_computed_stays(tmp_path: Path, make: Callable[[Builder], str]) -> None:
    hub = model(tmp_path / "m.onnx", make)
    same(hub, 2)


def test_a_gemm_between_gemms(tmp_path: Path) -> None:
    same(model(tmp_path / "m.onnx", layer_norm, gemm=True), 1)


def same(hub: Hub, readers: int) -> None:
    name = last_input(hub)
    after = hub.clone()
    value = after.value(name)
    nodes = [str(node.name) for node in value.consumers()]
    assert len(nodes) == readers and all(not isinstance(reader_weight(n, value), str) for n in value.consumers())
    factors = np.geomspace(0.25, 4.0, WIDTH)
    apply(after, name, factors, nodes)
    feed = {"x": np.random.default_rng(1).standard_normal((1, TIME, WIDTH)).astype(np.float32)}
    for real, given in zip(run(hub, feed), run(after, feed), strict=True):
        assert np.allclose(real, given, rtol=1e-5, atol=1e-5)
    assert name not in {str(v.name) for v in after.values()}, "another value may not keep the name of the old one"
    assert len(after.nodes()) == len(hub.nodes())
    probes = [h.clone() for h in (hub, after)]
    for probe, wanted in zip(probes, (name, f"{name}_scaled"), strict=True):
        probe.graph.outputs[:] = [probe.value(wanted)]
    real, given = (run(probe, feed)[0] for probe in probes)
    assert np.allclose(real, given * factors, rtol=1e-4, atol=1e-5), "the value itself is divided"


def residual(b: Builder) -> str:
    return b.node("Add", ["x", b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)])])


def gelu(b: Builder) -> str:
    made = b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)])
    return b.node("Mul", [b.node("Mul", [made, b.node("Erf", [made])]), b.constant(np.float32(0.5))])


def read_twice(b: Builder) -> str:
    made = b.node("MatMul", ["x", b.weight(WIDTH, WIDTH)])
    return b.node("Mul", [b.node("Softmax", [made], axis=-1), made])


def odd_heads(b: Builder) -> str:
    return attention(b, (1, 0, 2, 3))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (residual, "adds two activations"),
        (gelu, "does not have one constant a channel"),
        (read_twice, "is a Softmax and value0 is read elsewhere too"),
        (odd_heads, "does not merge the heads"),
        (lambda b: "x", "not made by a node"),
    ],
    ids=["residual", "gelu", "read twice", "odd heads", "input"],
)
def test_what_cannot_be_divided_says_why(tmp_path: Path, make: Callable[[Builder], str], reason: str) -> None:
    hub = model(tmp_path / "m.onnx", make)
    name = last_input(hub)
    found = find_makers(hub, hub.value(name), WIDTH)
    assert isinstance(found, str) and reason in found
    with pytest.raises(PlanError, match="cannot be done"):
        apply(hub, name, np.ones(WIDTH), [str(node.name) for node in hub.value(name).consumers()])


def test_other_readers_are_refused(tmp_path: Path) -> None:
    hub = model(tmp_path / "m.onnx", layer_norm)
    name = last_input(hub)
    first = str(hub.value(name).consumers()[0].name)
    with pytest.raises(PlanError, match=f"its readers are not {first}"):
        apply(hub, name, np.ones(WIDTH), [first])
