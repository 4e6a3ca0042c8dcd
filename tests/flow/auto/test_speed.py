"""Which mixtures a search tries for speed, and how they are written as recipes."""

from __future__ import annotations

from typing import Any

from fewbit.flow.auto.speed import mixture_recipe, speed_candidates
from fewbit.plan.recipe import Recipe

UNIFORM = {"float": 1.0, "int8": 0.8, "int8-dynamic": 1.0}


def mixture(milliseconds: float, counts: dict[str, int], **formats: str) -> dict[str, Any]:
    return {"milliseconds": milliseconds, "counts": counts, "formats": formats, "noise": 0.0}


def found(*mixtures: dict[str, Any]) -> dict[str, Any]:
    return {"uniform": UNIFORM, "mixtures": mixtures}


HALF = {"float": 1, "int8": 2}


def test_only_what_is_three_percent_faster_than_the_best_by_the_same_table_is_tried() -> None:
    fast, slow = mixture(0.77, HALF, a="float"), mixture(0.78, HALF, a="float")  # 0.8 / 1.03 is 0.7767
    (only,) = speed_candidates(found(fast, slow), "int8", 2.0)  # what was measured of int8 is on another scale
    assert only.id == "mixed-fast" and only.stage == "allocation"
    assert only.why == (
        "the times of its kernels foretell ×1.30 of the float model's speed (int8: ×1.25): 1 layers float, 2 layers int8"
    )
    assert [c.id for c in speed_candidates(found(fast, slow), "float", 1.0)] == ["mixed-fast", "mixed-fast-2"]


def test_a_best_candidate_that_the_table_does_not_know_counts_by_its_measured_speed() -> None:
    fast = mixture(0.5, HALF, a="float")
    assert speed_candidates(found(fast), {"name": "repaired"}, 1.95) == []
    assert len(speed_candidates(found(fast), {"name": "repaired"}, 1.94)) == 1


def test_what_is_one_format_throughout_is_no_mixture() -> None:
    assert speed_candidates(found(mixture(0.1, {"float": 3, "int8": 0}, a="float")), "float", 1.0) == []
    assert speed_candidates(found(mixture(0.1, {"float": 0, "int8": 3})), "float", 1.0) == []


def test_at_most_three_are_tried() -> None:
    many = [mixture(0.1 + i / 100, HALF, a="float") for i in range(5)]
    assert [c.id for c in speed_candidates(found(*many), "float", 1.0)] == [
        "mixed-fast",
        "mixed-fast-2",
        "mixed-fast-3",
    ]


def test_the_recipe_names_nodes_exactly() -> None:
    recipe = Recipe.get(mixture_recipe("mixed-fast", {"a[0]*": "float", "b": "int8-dynamic"}))
    nodes = [(n, "MatMul", [n], True) for n in ("a[0]*", "a0", "a[0]b", "b")]
    settings = recipe.settings(nodes)
    assert [settings[n].compute for n, *_ in nodes] == ["float", "integer", "integer", "dynamic"]
