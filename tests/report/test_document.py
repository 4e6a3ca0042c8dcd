"""The document of `fewbit auto` as values."""

from __future__ import annotations

import math

import pytest

from fewbit.errors import InputError
from fewbit.report.document import parse
from fewbit.report.html.layers import largest_errors, shares
from fewbit.report.judge import over, standing
from fewbit.report.words import plain, score, signed
from tests.report.documents import CANDIDATES, candidate, document, layer


def test_values() -> None:
    found = parse(document())
    assert found.winner is not None and found.winner.id == "int8" and found.winner.bytes == 290_000
    assert found.verdict is not None and found.verdict.worst_class is not None
    assert (found.verdict.worst_class.name, found.verdict.worst_class.before) == ("3", 0.90)
    assert found.limits.max_drop == 0.005 and found.limits.max_size is None


def test_figures_that_are_no_numbers_count_as_not_measured() -> None:
    found = parse(document(candidates=[candidate("int8", sqnr_db=math.inf, drop=math.nan)]))
    assert found.candidates[0].sqnr_db is None and found.candidates[0].drop is None


def test_keys_of_later_versions_are_left_alone() -> None:
    assert parse(document(carbon=3)).fewbit == "0.1.0"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"schema_version": 2},
            r"x\.json has schema_version 2, this fewbit reads 1; run fewbit auto again, or the fewbit",
        ),
        ({"schema_version": None}, "has no schema_version"),
        ({"candidates": [*CANDIDATES, {**CANDIDATES[0], "bytes": "many"}]}, r"candidates\[11\]\.bytes: .*given 'many'"),
        ({"candidates": [{"label": "int8"}]}, r"candidates\[0\]\.id: .*required"),
        ({"candidates": {"int8": 1}}, "candidates: .*given {'int8': 1}"),
        ({"limits": [1]}, r"limits: .*given \[1\]; run fewbit auto again"),
        ({"notes": "one" * 100}, r"notes: .*given 'one.{56}…;"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse(document(**changed), "x.json")
    assert "\n" not in str(caught.value)


def test_limits_that_are_broken() -> None:
    limits = {"max_drop": 0.005, "max_size": 280_000, "max_latency_ratio": 0.45, "max_memory": 40_000_000}
    found = parse(document(limits=limits, candidates=[candidate("int8"), candidate("slow", latency=None, drop=0.005)]))
    assert over(found.candidates[0], found) == ("size", "latency", "memory")
    assert over(found.candidates[1], found) == ("size", "memory")
    found = parse(document(limits={"max_latency_ratio": 0.46}))  # ×2.2 is 0.4545 of float's time
    assert over(found.candidates[0], found) == ()


def test_standings() -> None:
    found = parse(document())
    assert [standing(one, found) for one in found.candidates] == [
        "chosen", "measured", "measured", "measured", "over", "frontier", "frontier", "stopped", "over", "failed", "skipped",
    ]  # fmt: skip


def test_work_by_precision() -> None:
    layers = [
        layer("a", work=0.5),
        layer("b", work=0.2, bits=4, form="weight_only"),
        layer("c", work=0.1, form="float", bits=32),
        layer("d", work=0.2),
    ]
    found, weighted = shares(parse(document(layers=layers)).layers)
    assert weighted
    assert [(one.title, one.layers, round(one.share, 6)) for one in found] == [
        ("4 bits: packed weights, float activations", 1, 0.2),
        ("8 bits: integer kernels", 2, 0.7),
        ("float", 1, 0.1),
    ]
    found, weighted = shares(parse(document(layers=[{**one, "work": None} for one in layers])).layers)
    assert not weighted and [one.share for one in found] == [0.25, 0.5, 0.25]


def test_largest_errors_come_first() -> None:
    layers = [layer("a", sqnr_db=30), layer("b", sqnr_db=None), layer("c", sqnr_db=-3), layer("d", sqnr_db=12)]
    assert [one.name for one in largest_errors(parse(document(layers=layers)))] == ["c", "d", "a"]


def test_words() -> None:
    assert plain("a\tb\nc\x1b[31m\x00\ud800\u202e\uffff é 漢 🙂") == "a b c\ufffd[31m\ufffd\ufffd\ufffd\ufffd é 漢 🙂"
    assert (score(0.9164, True), score(3.14159, False), score(None, True)) == ("91.64%", "3.1416", "–")
    assert (signed(-0.0004, True), signed(0.25, False), signed(None, True)) == ("-0.04 points", "+0.2500", "–")
    assert (signed(-0.0, True), signed(-0.00001, True, unit=False), signed(0.0, False)) == (
        "0.00 points",
        "0.00",
        "0.0000",
    )
