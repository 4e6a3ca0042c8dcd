"""Which outputs are probabilities, and which are decisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from fewbit.graph.answers import Squash, decisions, next_tokens, squashed_outputs
from fewbit.graph.load import load
from tests.models import Builder


def test_probabilities_are_found_with_their_axis(tmp_path: Path) -> None:
    b = Builder()
    b.node("Softmax", ["x"], "p", axis=1)
    b.node("Sigmoid", ["x"], "s")
    b.node("Relu", ["x"], "r")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (1, 3, 4)}, ["p", "s", "r"]))
    assert squashed_outputs(hub) == {"p": Squash("softmax", 1), "s": Squash("sigmoid")}


@pytest.mark.parametrize(
    ("last", "shape", "found"),
    [
        ("gemm", 4, {"y"}),
        ("matmul and bias", 4, {"y"}),
        ("gemm", 1, set()),  # one number is no choice
        ("softmax", 4, {"y"}),
        ("normalization", 4, set()),  # an embedding: its highest value says nothing
        ("relu", 4, set()),
        ("residual", 4, set()),
    ],
)
def test_decisions_are_softmaxes_and_dense_heads(tmp_path: Path, last: str, shape: int, found: set[str]) -> None:
    b = Builder()
    before = b.node("Tanh", ["x"])
    dense = b.node("MatMul", [before, b.weight(6, shape)])
    if last == "gemm":
        b.node("Gemm", [before, b.weight(6, shape), b.weight(shape)], "y")
    elif last == "matmul and bias":
        b.node("Add", [dense, b.weight(shape)], "y")
    elif last == "residual":
        b.node("Add", [dense, b.node("Sin", [dense])], "y")
    else:
        op = {"softmax": "Softmax", "normalization": "LpNormalization", "relu": "Relu"}[last]
        b.node(op, [dense], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (1, 6)}, ["y"]))
    assert decisions(hub) == found


def test_a_softmax_of_rows_is_found_behind_their_reshape(tmp_path: Path) -> None:
    """As the conversion of older operator sets, and Paddle's exporter, write it."""
    b = Builder()
    b.node("Reshape", [b.node("Softmax", ["x"]), b.constant([2, 3, 4])], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (6, 4)}, ["y"]))
    assert decisions(hub) == {"y"} and squashed_outputs(hub) == {"y": Squash("softmax", -1)}


def test_a_reshape_that_mixes_rows_hides_a_softmax(tmp_path: Path) -> None:
    b = Builder()
    b.node("Reshape", [b.node("Softmax", ["x"]), b.constant([2, 12])], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (4, 6)}, ["y"]))
    assert decisions(hub) == set() and squashed_outputs(hub) == {}


def test_an_autoencoder_decides_nothing(tmp_path: Path) -> None:
    b = Builder()
    b.node("Gemm", [b.node("Gemm", ["x", b.weight(6, 2)]), b.weight(2, 6)], "y")
    assert decisions(load(b.save(tmp_path / "m.onnx", {"x": ("N", 6)}, ["y"]))) == set()


@pytest.mark.parametrize(("width", "found"), [(11, {"y": "ids"}), (12, {})])
def test_scores_of_the_next_token_are_as_wide_as_the_table(tmp_path: Path, width: int, found: dict[str, str]) -> None:
    b = Builder()
    hidden = b.node("Tanh", [b.node("Gather", [b.weight(11, 6), "ids"])])
    b.node("MatMul", [hidden, b.weight(6, width)], "y")
    path = b.save(tmp_path / "m.onnx", {"ids": (1, 8)}, ["y"], dtypes={"ids": TensorProto.INT64})
    assert next_tokens(load(path)) == found
