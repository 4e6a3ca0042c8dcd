"""Rewrites of a recipe end up in the plan, which makes the same model again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import PlanError, RecipeError
from fewbit.formats.onnx.lower import lower
from fewbit.graph.load import load
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import compare_outputs
from tests.graph.rewrites.test_rotate_stream import model as language_model
from tests.graph.rewrites.test_rotate_stream import normalized_head, plain_head
from tests.models import Builder, attention, conv_relu_conv

AWQ: dict[str, Any] = {"base": "int3-weights", "rewrites": ["awq"]}
SHIFT: dict[str, Any] = {"base": "int8", "rewrites": ["shift"]}


def biased(path: Path) -> Path:
    """A layer whose channels lie far from each other, each in a narrow range."""
    b = Builder()
    bias = b.constant(np.array([0.0, 40.0, 10.0, 0.0, 0.0, 5.0, 0.0, 0.0], np.float32))
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 1, 1), bias])])
    b.node("Conv", [x, b.weight(6, 8, 1, 1), b.weight(6)], "y")
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def images(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def sqnr(model: Path, made: Any, feeds: list[dict[str, np.ndarray]]) -> float:
    return compare_outputs(open_session(model), open_session(made), feeds)[0].sqnr


def test_a_relu_whose_channels_never_reach_zero_loses_what_they_always_have(tmp_path: Path) -> None:
    model = biased(tmp_path / "m.onnx")
    plain, moved = (
        fewbit.quantize(model, data=images(16, 0), recipe=r, effort="fast", min_sqnr=0, verify=False)
        for r in ("int8", SHIFT)
    )
    (rewrite,) = moved.plan.rewrites
    assert rewrite.kind == "shift" and "dB" in rewrite.reason and rewrite.numbers[1] > 30.0
    assert rewrite.numbers[0] == 0.0  # it reaches zero
    unseen = images(16, 1)
    assert sqnr(model, moved.model, unseen) > sqnr(model, plain.model, unseen) + 3.0
    assert len(list(moved.model.graph)) == len(list(plain.model.graph))


def test_a_shift_that_nothing_needs_is_noted(tmp_path: Path) -> None:
    model = language_model(tmp_path / "m.onnx", normalized_head)
    recipe = {"rewrites": ["shift"], "rules": [{"compute": "storage", "weight": {"dtype": "int8"}}]}
    made = fewbit.quantize(model, recipe=recipe, verify=False)
    assert not made.plan.rewrites and "rewrite shift did nothing" in made.notes[0]


def test_a_plan_file_makes_the_same_model(tmp_path: Path) -> None:
    model, feeds = biased(tmp_path / "m.onnx"), images(4, 1)
    made = fewbit.quantize(model, data=images(16, 0), recipe=SHIFT, min_sqnr=0, verify=False)
    made.plan.save(str(tmp_path / "plan.json"))
    again = fewbit.quantize(model, data=images(2, 0), plan=tmp_path / "plan.json", verify=False)
    for feed in feeds:
        first, second = (open_session(m).run(feed)[0] for m in (made.model, again.model))
        assert (first == second).all()


def test_a_rotated_language_model_is_quantized(tmp_path: Path) -> None:
    model = language_model(tmp_path / "m.onnx", normalized_head)
    recipe = {"rewrites": ["rotate"], "rules": [{"compute": "storage", "weight": {"dtype": "int8"}}]}
    made = fewbit.quantize(model, recipe=recipe, out=tmp_path / "q.onnx")
    assert [r.kind for r in made.plan.rewrites] == ["rotate"]
    assert made.verification is not None
    plan = replace(made.plan, sites={}, nodes={k: replace(n, form="float") for k, n in made.plan.nodes.items()})
    feeds = [{"x": np.arange(5)[None]}]
    assert sqnr(model, lower(load(model), plan), feeds) > 100.0


def test_a_stream_that_cannot_be_rotated_is_one_error(tmp_path: Path) -> None:
    model = language_model(tmp_path / "m.onnx", plain_head)
    with pytest.raises(RecipeError, match="reads the residual stream without a normalization"):
        fewbit.quantize(model, recipe={"base": "int4-weights", "rewrites": ["rotate"]})


def uneven(path: Path) -> Path:
    """A normalization, some of whose channels are large, read by two products; a gated layer; one that reads a sum."""
    b = Builder()
    gains = b.random.lognormal(0.0, 2.0, 64).astype(np.float32)
    norm = b.node("LayerNormalization", ["x", b.constant(gains), b.weight(64)], axis=-1)
    gate, up = (b.node("MatMul", [norm, b.weight(64, 96)]) for _ in range(2))
    down = b.node("MatMul", [b.node("Mul", [b.node("Sigmoid", [gate]), up]), b.weight(96, 64)])
    residual = b.node("Add", [down, "x"])
    b.node("MatMul", [residual, b.weight(64, 48)], "y")
    return b.save(path, {"x": (1, 6, 64)}, ["y"])


def vectors(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, 6, 64)).astype(np.float32)} for _ in range(count)]


def test_large_channels_get_finer_weights(tmp_path: Path) -> None:
    model = uneven(tmp_path / "m.onnx")
    plain, scaled = (
        fewbit.quantize(model, data=vectors(32, 0), recipe=r, effort="fast", verify=False)
        for r in ("int3-weights", AWQ)
    )
    first, second = scaled.plan.rewrites
    assert (first.kind, len(first.readers)) == ("awq", 2) and "dB less" in first.reason
    assert len(second.readers) == 1 and second.numbers.size == 96
    (note,) = [note for note in scaled.plan.notes if note.startswith("rewrite awq")]
    assert note.startswith("rewrite awq scaled 2 values; 1 values stay") and "adds two activations" in note
    real = replace(scaled.plan, sites={}, nodes={k: replace(n, form="float") for k, n in scaled.plan.nodes.items()})
    unseen = vectors(16, 1)
    assert sqnr(model, lower(load(model), real), unseen) > 100.0, "the float function stays"
    assert sqnr(model, scaled.model, unseen) > sqnr(model, plain.model, unseen) + 1.0


def test_a_plan_file_scales_the_same_channels(tmp_path: Path) -> None:
    model = uneven(tmp_path / "m.onnx")
    made = fewbit.quantize(model, data=vectors(16, 0), recipe=AWQ, verify=False)
    made.plan.save(str(tmp_path / "plan.json"))
    again = fewbit.quantize(model, plan=tmp_path / "plan.json", verify=False)
    for feed in vectors(2, 1):
        first, second = (open_session(m).run(feed)[0] for m in (made.model, again.model))
        assert (first == second).all()


def test_scaling_needs_samples_and_narrow_weights_beside_floats(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="rewrite awq needs samples"):
        fewbit.quantize(attention(tmp_path / "a.onnx"), recipe=AWQ, verify=False)
    model = conv_relu_conv(tmp_path / "m.onnx")
    recipe = {"base": "int8", "rewrites": ["awq"]}
    made = fewbit.quantize(model, data=images(4, 0), recipe=recipe, effort="fast", min_sqnr=0, verify=False)
    assert not made.plan.rewrites
    assert "rewrite awq scaled 0 values; no weights of integers beside float activations" in made.plan.notes


def test_unknown_rewrites_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="rewrites"):
        fewbit.Recipe.get({"base": "int8", "rewrites": ["fold"]})
    model = biased(tmp_path / "m.onnx")
    made = fewbit.quantize(model, data=images(4, 0), recipe=SHIFT, effort="fast", min_sqnr=0, verify=False)
    odd = replace(made.plan, rewrites=(replace(made.plan.rewrites[0], kind="fold"),))
    with pytest.raises(PlanError, match="'fold'"):
        lower(load(model), odd)
