"""Ranges of all sites searched together, by the outputs of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import RecipeError
from fewbit.plan.plan import Plan
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import compare_outputs
from fewbit.stages.joint_ranges import MOST_EVALUATIONS, NORMS, Choice, search
from tests.models import Builder, attention

ACTIVATIONS: dict[str, Any] = {"activation": {"range": "joint"}}
BOTH: dict[str, Any] = {**ACTIVATIONS, "weight": {"range": "joint"}}


def test_the_search_finds_a_valley_that_no_single_factor_shows() -> None:
    asked: list[Choice] = []

    def noise(choice: Choice) -> float:
        asked.append(choice)
        a, b = choice.steps
        return 1.0 + (choice.norm - 2.8) ** 2 + (a - b) ** 2 + 0.3 * (a + b - 1.0) ** 2

    found = search((0.0, 0.0), noise)
    assert found.norm == pytest.approx(2.8, abs=0.01)  # the lowest point of the parabola, tried by nobody
    assert found.steps == pytest.approx((0.5, 0.5), abs=0.05)
    assert len(asked) == len(set(asked)) <= MOST_EVALUATIONS


def test_the_search_is_bounded_and_keeps_the_best_that_it_saw() -> None:
    seen: list[Choice] = []

    def noise(choice: Choice) -> float:
        seen.append(choice)
        return 0.5 ** len(seen)  # always better than before: there is no end

    assert search((0.0,) * 8, noise) == seen[-1] and len(seen) == MOST_EVALUATIONS


def test_choices_that_give_no_numbers_lose() -> None:
    found = search((0.0,), lambda choice: choice.norm if choice.norm > 2.2 else float("nan"))
    assert found == Choice(2.5, (0.0,)) and found.norm in NORMS


def network(path: Path) -> Path:
    """Channel 0 of the input is sixteen times as wide as all others, and nothing reads it."""
    b = Builder()
    weight = b.random.standard_normal((8, 8, 1, 1)).astype(np.float32)
    weight[:, 0] = 0.0
    x = b.node("Relu", [b.node("Conv", ["x", b.constant(weight), b.weight(8)])])
    b.node("Conv", [x, b.weight(4, 8, 3, 3), b.weight(4)], "y")
    return b.save(path, {"x": ("N", 8, 6, 6)}, ["y"])


def wide(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        x = random.uniform(-0.5, 0.5, (1, 8, 6, 6)).astype(np.float32)
        x[0, 0] *= 16.0
        feeds.append({"x": x})
    return feeds


@pytest.mark.parametrize("rule", [ACTIVATIONS, BOTH], ids=["activations", "weights too"])
def test_outputs_on_other_samples_are_better(tmp_path: Path, rule: dict[str, Any]) -> None:
    model = network(tmp_path / "m.onnx")
    sqnr = []
    for rules in ([], [rule]):
        recipe = {"rules": [{"compute": "integer", "activation": {"dtype": "uint4"}}, *rules]}
        made = fewbit.quantize(model, data=wide(24, 0), recipe=recipe, effort="fast", min_sqnr=0, verify=False)
        sqnr.append(compare_outputs(open_session(model), open_session(made.model), wide(16, 1))[0].sqnr)
    assert sqnr[1] > sqnr[0] + 3.0
    assert made.plan.sites["x"].method == "joint" and "by the outputs: p =" in made.plan.sites["x"].reason
    made.plan.save(str(tmp_path / "plan.json"))
    again = Plan.load(str(tmp_path / "plan.json"))
    assert again.sites["x"].params is not None and made.plan.sites["x"].params is not None
    assert again.sites["x"].params.scale == made.plan.sites["x"].params.scale


def test_what_is_worse_on_other_samples_is_not_kept(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    random = np.random.default_rng(0)
    spans = [0.1] * 10 + [1.0] * 22  # those that judge know nothing of the others
    feeds = [{"x": random.uniform(-span, span, (1, 8, 6, 6)).astype(np.float32)} for span in spans]
    recipe = {"rules": [{"compute": "integer", "activation": {"dtype": "uint4", "range": "joint"}}]}
    made = fewbit.quantize(model, data=feeds, recipe=recipe, effort="fast", min_sqnr=0, verify=False)
    assert any("no better on other samples" in note for note in made.plan.notes)
    assert made.plan.sites["x"].method == "mse"


def test_few_samples_are_not_enough_to_search(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx")
    made = fewbit.quantize(
        model, data=wide(2, 0), recipe={"base": "int8", "rules": [ACTIVATIONS]}, min_sqnr=0, verify=False
    )
    assert made.plan.sites["x"].method == "mse" and any("3 samples are needed" in note for note in made.plan.notes)


def test_auto_and_joint_in_one_recipe_are_refused(tmp_path: Path) -> None:
    rules = [ACTIVATIONS, {"match": {"position": "last"}, "activation": {"range": "auto"}}]
    with pytest.raises(RecipeError, match="asks for ranges joint and auto"):
        fewbit.quantize(network(tmp_path / "m.onnx"), data=wide(4, 0), recipe={"base": "int8", "rules": rules})


def test_weights_beside_float_activations_keep_least_squares(tmp_path: Path) -> None:
    recipe = {"base": "int4-weights", "rules": [{"weight": {"range": "joint"}}]}
    made = fewbit.quantize(attention(tmp_path / "m.onnx"), recipe=recipe, verify=False)
    assert any("range joint" in note for note in made.plan.notes)
    assert {site.method for site in made.plan.constants().values()} == {"mse"}
