"""Whether noises add up, and what is added where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.flow.additivity import additivity
from fewbit.flow.auto.mixed import mixed_candidates
from fewbit.flow.auto.sensitivity import sensitivity
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.layer_formats import measure_layers
from fewbit.flow.opening import load
from fewbit.progress import SILENT
from tests.models import Builder

RECIPES = ("int8-weights", "int4-weights")
SIZE = 64


@pytest.fixture
def cancelling(tmp_path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Three pairs of layers, each the negative of the other, so that what they round away cancels if both are in the same
    format; and one layer that is left."""
    random = np.random.default_rng(0)
    b = Builder()
    total = b.node("MatMul", ["x", b.constant(random.standard_normal((SIZE, SIZE)).astype(np.float32))])
    for scale in (2.0, 3.0, 4.0):
        weight = (scale * random.standard_normal((SIZE, SIZE))).astype(np.float32)
        for sign in (1, -1):
            product = b.node("MatMul", ["x", b.constant(np.float32(sign) * weight)])
            total = b.node("Add", [total, product])
    b.node("Identity", [total], "y")
    path = b.save(tmp_path / "m.onnx", {"x": (1, SIZE)}, ["y"], opset=17)
    return str(path), [{"x": random.standard_normal((1, SIZE)).astype(np.float32)} for _ in range(16)]


def test_errors_that_cancel_are_foretold_by_pairs(cancelling: tuple[str, list[dict[str, Any]]]) -> None:
    path, feeds = cancelling
    hub = load(path)
    source, _ = samples_in_layout(feeds, hub_inputs(hub), limit=None, preprocess=None, purpose="a test")
    job = Calibrator(hub, target_for("ort-cpu"), 1, SILENT, EFFORTS["standard"], source)
    found = additivity(job, measure_layers(job, RECIPES, feeds[:8], 0), feeds[:8], 0)
    assert found is not None and found.rank < 0.8
    assert found.paired is not None and found.paired > max(found.rank, 0.8) and found.pairs
    assert "with terms for pairs of layers" in found.sentence() and "not to be trusted" not in found.sentence()


def test_mixtures_give_layers_whose_errors_cancel_the_same_format(
    cancelling: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    path, feeds = cancelling
    setup = Setup(path, feeds, None, None, "cosine", None, "ort-cpu", 0, 0.95, 16)
    everything = tuple(range(len(feeds)))
    found = sensitivity(setup, Splits(everything, (), (), ()), RECIPES, True, tmp_path, SILENT)
    assert found["pairs"] and all(len(pair["first"]) == 2 for pair in found["pairs"])
    alone, paired = (mixed_candidates(found["layers"], RECIPES, pairs) for pairs in ((), found["pairs"]))

    def bits(recipe: Any) -> list[int]:
        """Of the layers in the order of the graph."""
        rules = {rule["match"]["name"]: str(rule["weight"]["dtype"]) for rule in recipe["rules"]}
        named = [layer["name"] for layer in found["layers"]]
        return [4 if "int4" in rules.get(name, "") else 8 for name in named]

    # all six cancelling layers in 4 bits, and the one that is left wide: the sums of noises call that very loud
    best = [bits(candidate.recipe) for candidate in paired]
    assert [8, *[4] * 6] in best
    assert [8, *[4] * 6] not in [bits(candidate.recipe) for candidate in alone]
