from __future__ import annotations

from typing import Any

import pytest

from fewbit.flow.auto.entries import (
    FLOAT,
    Entry,
    acceptable,
    compared_by,
    expected_drop,
    frontier,
    mean_drop,
    preferred,
    promising,
)
from fewbit.search.ladder import Candidate
from fewbit.search.limits import Limits
from fewbit.search.objective import parse_objective

LATENCY, SIZE, ENERGY = map(parse_objective, ("latency", "size", "energy"))


def drop(estimate: float, half: float = 0.0, samples: int = 100, confidence: float = 0.95) -> dict[str, Any]:
    return {
        "drop": estimate,
        "low": estimate - half,
        "high": estimate + half,
        "samples": samples,
        "confidence": confidence,
    }


def entry(
    name: str,
    size: int = 100,
    ratio: float | None = 1.0,
    *,
    spread: float = 0.01,
    lost: float = 0.0,
    half: float = 0.0,
    form: str = "integer",
    energy: float = 1.0,
) -> Entry:
    latency = (
        None if ratio is None else {"ratio": ratio, "low": ratio - spread, "high": ratio + spread, "milliseconds": 1.0}
    )
    return Entry(
        Candidate(name, "ladder", name, ""),
        100,
        "measured",
        built={"bytes": size, "forms": {form: 3}, "sqnr_db": 30.0},
        scored={"drop": drop(lost, half)},
        measured={"latency": latency, "memory": None},
        energy={"ratio": energy},
    )


def names(entries: list[Entry]) -> list[str]:
    return [e.id for e in entries]


def test_the_fastest_comes_first_and_what_is_slower_than_float_not_at_all() -> None:
    pool = [
        entry("fp16", 50, 1.2, form="storage"),  # computes as float does: by chance, then
        entry("int8", 25, 2.0),
        entry("dynamic", 30, 2.5),
        entry("slow", 10, 0.6),
        entry("doubtful", 26, 1.1, spread=0.2),
        entry(FLOAT, 100, form="float"),
    ]
    assert names(preferred(pool, LATENCY)) == ["dynamic", "int8", "doubtful", "fp16", FLOAT]
    assert names(preferred(pool, SIZE))[:2] == ["slow", "int8"]


def test_where_nothing_is_timed_an_estimate_of_the_work_counts() -> None:
    assert compared_by(LATENCY, timed=True) == LATENCY and compared_by(SIZE, timed=False) == SIZE
    assert str(compared_by(parse_objective("latency=2,size=1,energy=1"), timed=False)) == "energy=0.75,size=0.25"
    by = compared_by(LATENCY, timed=False)
    assert by == ENERGY
    pool = [entry("a", 40, None, energy=0.5), entry("b", 50, None, energy=0.2)]
    assert names(preferred(pool, by)) == ["b", "a"] and frontier(pool, by) == {"b"}


def test_of_about_one_size_what_keeps_most_comes_first() -> None:
    half, mixed, small = entry("half", 51, 1.0), entry("mixed", 50, 0.98), entry("small", 40, 1.0)
    assert half.built is not None
    half.built = {**half.built, "sqnr_db": 60.0}
    assert names(preferred([mixed, half, small, entry(FLOAT, 100)], LATENCY)) == ["small", "half", "mixed", FLOAT]


def test_limits_and_refusals_exclude() -> None:
    one = entry("a", 100, 2.0, lost=0.001, half=0.001)
    assert acceptable(one, Limits(), 0.005)
    assert not acceptable(one, Limits(max_size=99), 0.005)
    assert not acceptable(one, Limits(max_latency_ratio=0.4), 0.005)
    one.refused = True
    assert not acceptable(one, Limits(), 0.005)
    one.refused, one.status = False, "stopped"
    assert not acceptable(one, Limits(), 0.005)


def test_the_drop_to_reckon_with_after_a_first_look() -> None:
    assert expected_drop(drop(0.009, 1.96 * 0.004), 0.005) == pytest.approx(0.00549, abs=1e-5)
    assert expected_drop(drop(0.007, 1.96 * 0.0035), 0.005) == pytest.approx(0.00470, abs=1e-5)
    assert expected_drop(drop(0.009, 0.0), 0.005) == 0.009  # many samples: what they say
    assert expected_drop(drop(0.002, 0.004), 0.0) == 0.002
    assert expected_drop({**drop(0.003), "low": None}, 0.005) == 0.003


def test_all_samples_count_alike() -> None:
    assert mean_drop([drop(0.0, samples=239), drop(4 / 559, samples=559)]) == pytest.approx(4 / 798)


def test_what_lost_much_on_few_samples_yields_to_what_is_nearly_as_good() -> None:
    small, next_, far = entry("a", 20, lost=0.0126), entry("b", 22, lost=0.0042), entry("c", 60)
    assert promising([small, next_, far], SIZE, 0.005) is next_
    assert promising([small, far], SIZE, 0.005) is small  # three times the size is too much for bad luck
    assert promising([next_, far], SIZE, 0.005) is next_
    assert promising([], SIZE, 0.005) is None


def test_the_frontier_holds_what_nothing_beats() -> None:
    pool = [
        entry("a", 100, lost=0.001),
        entry("b", 50, lost=0.002),
        entry("c", 60, lost=0.003),
        entry("d", 40, lost=0.01),
    ]
    assert frontier(pool, SIZE) == {"a", "b", "d"}


def test_weights_weigh_what_is_saved() -> None:
    fast, small, both = entry("fast", 100, 4.0), entry("small", 10, 1.0), entry("both", 40, 2.0)
    pool = [fast, small, both, entry(FLOAT, 100, form="float")]
    assert names(preferred(pool, parse_objective("latency=9,size=1")))[0] == "fast"
    assert names(preferred(pool, parse_objective("latency=1,size=9")))[0] == "small"
    assert names(preferred(pool, parse_objective("latency,size"))) == ["both", "small", "fast", FLOAT]
    lucky = entry("lucky", 90, 9.0, form="storage")  # computes as float does, and is no faster
    assert names(preferred([*pool, lucky], parse_objective("latency=9,size=1")))[0] == "fast"
