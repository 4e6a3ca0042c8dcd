"""ONNX's node tests: every case passes or is listed with its reason, and none is listed that passes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.torchgraph.node_cases import cases, edge_cases, failures, listed, reason, score

LEAST, LEAST_OF_EDGE = 0.85, 0.98
ROUNDING = 2**-10
"""Of the largest number: a unit in the last place of float16, 8,000 of float32."""


@pytest.fixture(scope="module")
def failed() -> dict[str, str]:
    return dict(failures())


def test_every_failure_is_listed_and_every_listed_case_fails(failed: dict[str, str]) -> None:
    known = listed()
    surprises = {name: why for name, why in failed.items() if name not in known}
    assert surprises == {}, "these failed and are not in node_failures.tsv"
    passing = [name for name, why in known.items() if name not in failed and why != "rounding"]
    assert passing == [], "these passed: take them out of node_failures.tsv"


def test_what_is_put_down_to_rounding_is_nothing_else() -> None:
    rounded = [name for name, why in listed().items() if why == "rounding"]
    assert rounded and [why for name in rounded if (why := reason(cases()[name], ROUNDING))] == []


def test_scores(failed: dict[str, str]) -> None:
    assert len(cases()) == 1884
    for names, least in ((set(cases()), LEAST), (edge_cases(), LEAST_OF_EDGE)):
        assert len(names - set(failed)) >= least * len(names), score(failed, names)
