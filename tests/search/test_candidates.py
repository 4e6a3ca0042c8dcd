from __future__ import annotations

from itertools import product

import pytest

from fewbit.flow.auto.mixed import literal, mixed_candidates
from fewbit.plan.recipe import Match, Recipe
from fewbit.search.ladder import LADDERS, family, ladder
from fewbit.search.objective import AXES, parse_objective
from fewbit.search.repair import repairs, trained, training_seconds
from fewbit.targets import TARGETS


def test_every_target_has_a_ladder_of_recipes_that_exist() -> None:
    assert {target for target, _ in LADDERS} == {family(target) for target in TARGETS}
    for target, objective in product(TARGETS, AXES):
        steps = ladder(target, parse_objective(objective))
        assert len({step.id for step in steps}) == len(steps) >= 2
        for step in steps:
            Recipe.get(step.asked()["recipe"])


def test_a_weighted_objective_tries_what_serves_any_of_its_axes() -> None:
    both = [step.id for step in ladder("ort-cpu", parse_objective("size=1,latency=3"))]
    alone = [[step.id for step in ladder("ort-cpu", parse_objective(axis))] for axis in ("latency", "size")]
    assert both == [*alone[0], *(name for name in alone[1] if name not in alone[0])]


def test_repairs_cost_more_from_one_to_the_next() -> None:
    first = ladder("ort-cpu", parse_objective("latency"))[0]
    found = repairs(first, {"sqnr_db": 21.4, "forms": {"integer": 9}, "can_learn": True}, to_float=True)
    assert [(c.id, c.effort, c.min_sqnr) for c in found] == [
        ("int8@max", "max", None),
        ("int8>27dB", "max", 27.0),
        ("int8>33dB", "max", 33.0),
    ]
    assert all(c.stage == "repair" and c.recipe == "int8" for c in found)
    assert [
        c.id for c in repairs(first, {"sqnr_db": 21.4, "forms": {"integer": 9}, "can_learn": True}, to_float=False)
    ] == ["int8@max"]
    assert [
        c.id for c in repairs(first, {"sqnr_db": 58.0, "forms": {"integer": 9}, "can_learn": True}, to_float=True)
    ] == ["int8@max"]
    assert [
        c.id for c in repairs(first, {"sqnr_db": None, "forms": {"storage": 9}, "can_learn": True}, to_float=True)
    ] == ["int8@max"]
    half = {"sqnr_db": 40.0, "forms": {"storage": 9}, "can_learn": False}
    assert repairs(ladder("ort-cpu", parse_objective("latency"))[2], half, to_float=True) == []
    assert repairs(found[-1], {"sqnr_db": 30.0, "forms": {"integer": 9}, "can_learn": True}, to_float=True) == []


def test_training_comes_last() -> None:
    tuned = trained(ladder("ort-cpu", parse_objective("latency"))[0])
    assert (tuned.id, tuned.stage, tuned.asked()["tune"]) == ("int8+tune", "tune", True)
    assert training_seconds(128, 2.0) == pytest.approx(38.4)


def test_mixtures_name_their_layers_exactly() -> None:
    layers = [
        {
            "name": "a[0]*",
            "nodes": ["a[0]*"],
            "formats": {"fp16": {"bytes": 200, "noise": 1e-9}, "codebook4": {"bytes": 60, "noise": 1e-3}},
        },
        {
            "name": "b",
            "nodes": ["b", "c"],
            "formats": {"fp16": {"bytes": 2000, "noise": 1e-9}, "codebook4": {"bytes": 600, "noise": 1e-2}},
        },
    ]
    found = mixed_candidates(layers, ("fp16", "codebook4"))
    assert [c.id for c in found] == ["mixed-19.6dB", "mixed-30.0dB", "mixed-87.0dB"]
    recipe = Recipe.get(found[0].recipe)  # it is one that a file could hold
    assert len(recipe.rules) == 1 + 3
    last = recipe.rules[1]
    assert last.compute == "storage" and last.weight is not None and last.weight["codebook"] == "kmeans"
    assert last.match == Match(name=literal("a[0]*"))
    assert last.match("Conv", ["a[0]*"], None, 1) and not last.match("Conv", ["a0x"], None, 1)
    assert found[0].why == "least bytes at the noise expected: 2 × codebook4"


def test_the_widest_format_is_the_base_and_one_format_is_no_mixture() -> None:
    layers = [
        {"name": "a", "nodes": ["a"], "formats": {"int8": {"bytes": 200, "noise": 1e-5}}},
        {
            "name": "b",
            "nodes": ["b"],
            "formats": {"int8": {"bytes": 2000, "noise": 1e-5}, "int4-weights": {"bytes": 1100, "noise": 1e-3}},
        },
    ]
    found = mixed_candidates(layers, ("int8", "int4-weights"))
    settings = Recipe.get(found[0].recipe).settings([(name, "Gemm", [name], True) for name in "ab"])
    assert [settings[name].compute for name in "ab"] == ["integer", "weights"]
    assert mixed_candidates(layers[:1], ("int8", "int4-weights")) == []
