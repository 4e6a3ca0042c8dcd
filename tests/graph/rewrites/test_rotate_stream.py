"""A rotated stream changes nothing that the model computes; where it would, it is declined with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fewbit.core.rotation import random_signs, rotation
from fewbit.graph.load import load
from fewbit.graph.rewrites.rotate_stream import Stream, apply, find_stream
from tests.graph.build import run
from tests.models import Builder

WIDTH = 12  # 4 · 3: a Hadamard matrix and a cosine transform


def rms_norm(b: Builder, x: str, weight: str | None = None) -> str:
    square = b.node("Mul", [x, x])
    mean = b.node("ReduceMean", [square], axes=[-1], keepdims=1)
    root = b.node("Sqrt", [b.node("Add", [mean, b.constant(np.array(1e-5, np.float32))])])
    inverse = b.node("Div", [b.constant(np.array(1.0, np.float32)), root])
    return b.node("Mul", [b.node("Mul", [x, inverse]), weight or b.weight(WIDTH, scale=1.0)])


def model(path: Path, head: Callable[[Builder, str], None], bias: bool = False) -> Path:
    """Embedding → RMSNorm → two products → residual sum (→ + bias) → head."""
    b = Builder()
    x = b.node("Gather", [b.weight(64, WIDTH, scale=1.0), "x"])
    norm = rms_norm(b, x)
    gate = b.node("Sigmoid", [b.node("MatMul", [norm, b.weight(WIDTH, 7)])])
    hidden = b.node("Mul", [gate, b.node("MatMul", [norm, b.weight(WIDTH, 7)])])
    written = b.node("MatMul", [hidden, b.weight(7, WIDTH)])
    if bias:
        written = b.node("Add", [written, b.weight(WIDTH)])
    head(b, b.node("Add", [x, written]))
    return b.save(path, {"x": ("N", 5)}, ["y"], dtypes={"x": 7})


def normalized_head(b: Builder, x: str) -> None:
    b.node("MatMul", [rms_norm(b, x), b.weight(WIDTH, 20)], "y")


@pytest.mark.parametrize("bias", [False, True])
def test_the_outputs_stay(tmp_path: Path, bias: bool) -> None:
    hub = load(model(tmp_path / "m.onnx", normalized_head, bias))
    stream = find_stream(hub)
    assert isinstance(stream, Stream)
    assert (stream.width, len(stream.writers), len(stream.readers), len(stream.norms)) == (WIDTH, 2, 3, 2)
    assert len(stream.constants) == bias
    names = {str(value.name) for value in stream.values}
    after = hub.clone()
    apply(after, rotation(random_signs(WIDTH)))
    feed = {"x": np.arange(10).reshape(2, 5)}
    before, rotated = run(hub, feed)[0], run(after, feed)[0]
    assert np.abs(rotated - before).max() <= 1e-5 * np.abs(before).max()
    assert not names & {str(v.name) for v in after.values()}, "other values may not keep the names of the old ones"
    tables = [h.constant(next(n for n in h.nodes() if n.op_type == "Gather").inputs[0]) for h in (hub, after)]
    assert np.allclose(tables[0] @ rotation(random_signs(WIDTH)), tables[1], atol=1e-5)


def plain_head(b: Builder, x: str) -> None:
    b.node("MatMul", [x, b.weight(WIDTH, 20)], "y")


def output_head(b: Builder, x: str) -> None:
    b.node("MatMul", [rms_norm(b, x), b.weight(WIDTH, 20)], "z")
    b.node("Add", [x, b.weight(WIDTH)], "y")


def scaled_head(b: Builder, x: str) -> None:
    b.node("Sigmoid", [rms_norm(b, x)], "y")


def tied_head(b: Builder, x: str) -> None:
    weight = b.weight(WIDTH, WIDTH)
    written = b.node("Add", [x, b.node("MatMul", [rms_norm(b, x), weight])])
    b.node("MatMul", [rms_norm(b, written), weight], "y")


def added_head(b: Builder, x: str) -> None:
    b.node(
        "MatMul", [rms_norm(b, b.node("Add", [x, b.constant(np.array([1.0], np.float32))])), b.weight(WIDTH, 20)], "y"
    )


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (plain_head, "reads the residual stream without a normalization"),
        (output_head, "is an output of the model"),
        (scaled_head, "reads a normalization and has no matrix"),
        (tied_head, "read the same weight"),
        (added_head, "adds a constant to the residual stream"),
    ],
)
def test_what_is_not_exact_is_declined(tmp_path: Path, head: Callable[[Builder, str], None], reason: str) -> None:
    hub = load(model(tmp_path / "m.onnx", head))
    assert reason in str(find_stream(hub))


def test_a_stream_that_something_else_writes_is_declined(tmp_path: Path) -> None:
    b = Builder()
    x = b.node("Sigmoid", ["x"])
    b.node("MatMul", [rms_norm(b, x), b.weight(WIDTH, 20)], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 5, WIDTH)}, ["y"]))
    assert "enters the residual stream without a weight" in str(find_stream(hub))


def test_other_normalizations_are_declined(tmp_path: Path) -> None:
    b = Builder()
    b.node("LayerNormalization", ["x", b.weight(WIDTH)], "y", axis=-1)
    assert "no RMSNorm" in str(find_stream(load(b.save(tmp_path / "m.onnx", {"x": ("N", 5, WIDTH)}, ["y"]))))
