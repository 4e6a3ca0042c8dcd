"""Further samples: mixtures, and texts that a language model writes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from fewbit.errors import RecipeError
from fewbit.graph.load import load
from fewbit.runtimes.onnxruntime import OrtSession, open_session
from fewbit.torchgraph.augment import further_samples
from tests.models import Builder

Feeds = list[dict[str, np.ndarray[Any, Any]]]


def made(path: Path, given: Feeds, count: int, seed: int = 0) -> Feeds:
    return [dict(feed) for feed in further_samples(load(path), open_session(path), given, count, seed)]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    b = Builder()
    b.node("Add", ["a", "b"], "y")
    return b.save(tmp_path / "sums.onnx", {"a": ("N", 3), "b": ("N", 3)}, ["y"])


def test_mixtures_lie_between_two_samples(sums: Path) -> None:
    """Both inputs of one sample are mixed in the same parts, those of other shapes with their like alone."""
    rng = np.random.default_rng(0)
    given = [{n: rng.normal(size=(rows, 3)).astype(np.float32) for n in "ab"} for rows in (1, 1, 2, 2)]
    found = made(sums, given, 40)
    assert len(found) == 40 and {len(f["a"]) for f in found} == {1, 2}
    for feed in found:
        first, second = given[:2] if len(feed["a"]) == 1 else given[2:]
        parts = [(feed[n] - second[n]) / (first[n] - second[n]) for n in "ab"]
        np.testing.assert_allclose(parts, np.mean(parts), atol=1e-3)
        assert 0.0 <= np.mean(parts) <= 1.0
        assert feed["a"].dtype == np.float32


def test_a_seed_gives_the_same_samples(sums: Path) -> None:
    rng = np.random.default_rng(0)
    given = [{n: rng.normal(size=(1, 3)).astype(np.float32) for n in "ab"} for _ in range(4)]
    first, again, other = (made(sums, given, 3, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[2]["a"], again[2]["a"])
    assert not np.array_equal(first[2]["a"], other[2]["a"])


def test_what_cannot_be_mixed_is_said(sums: Path, tmp_path: Path) -> None:
    given = [{n: np.zeros((rows, 3), np.float32) for n in "ab"} for rows in (1, 2)]
    with pytest.raises(RecipeError, match="no two of the 2 samples have one shape"):
        made(sums, given, 1)
    b = Builder()
    b.node("Gather", [b.weight(5, 3), "ids"], "y")
    path = b.save(tmp_path / "m.onnx", {"ids": (1, 4)}, ["y"], dtypes={"ids": TensorProto.INT64})
    with pytest.raises(RecipeError, match="input ids is int64, which cannot be mixed"):
        made(path, [{"ids": np.zeros((1, 4), np.int64)}], 1)


TOKENS = 7


@pytest.fixture
def successor(tmp_path: Path) -> Path:
    """A language model that is sure of the token one higher than the last (modulo TOKENS)."""
    b = Builder()
    table = b.constant(np.eye(TOKENS, dtype=np.float32))
    sure = b.constant(np.roll(50 * np.eye(TOKENS, dtype=np.float32), 1, axis=1))
    b.node("MatMul", [b.node("Gather", [table, "ids"]), sure], "y")
    return b.save(tmp_path / "lm.onnx", {"ids": (1, 10)}, ["y"], dtypes={"ids": TensorProto.INT64})


def test_a_language_model_writes_texts_on(successor: Path) -> None:
    """After a place that is drawn at random each token is the one that the model is sure of."""
    given = {"ids": np.zeros((1, 10), np.int64)}
    texts = np.concatenate([feed["ids"] for feed in made(successor, [given], 30)])
    kept = (texts == 0).argmin(1)  # each text begins with the zeros that were kept
    assert len(set(kept.tolist())) > 4 and texts.dtype == np.int64
    for text, length in zip(texts, kept, strict=True):
        tail = text[max(length - 1, 0) :] if length else text[-1:]
        assert np.array_equal(np.diff(tail) % TOKENS, np.ones(len(tail) - 1))


def test_tokens_are_drawn_from_what_the_model_expects(tmp_path: Path) -> None:
    """A model that always expects tokens with probabilities 1/2, 1/3, 1/6 writes them so often."""
    b = Builder()
    table = b.constant(np.ones((3, 1), np.float32))
    scores = b.constant(np.log(np.array([[3, 2, 1]], np.float32)))
    b.node("MatMul", [b.node("Gather", [table, "ids"]), scores], "y")
    path = b.save(tmp_path / "lm.onnx", {"ids": (1, 3001)}, ["y"], dtypes={"ids": TensorProto.INT64})
    given = {"ids": np.full((1, 3001), 0, np.int64)}
    session: OrtSession = open_session(path)
    (text,) = further_samples(load(path), session, [given], 1, 3)
    tail = text["ids"][0, np.flatnonzero(text["ids"][0])[0] :]
    assert len(tail) > 500
    np.testing.assert_allclose(np.bincount(tail, minlength=3) / len(tail), [1 / 2, 1 / 3, 1 / 6], atol=0.06)
