"""What `fewbit auto` tells on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from fewbit.report.auto import render
from tests.report.documents import ALL, HOSTILE, PASS, candidate, document, hostile


def shown(data: dict[str, Any], width: int = 140) -> list[str]:
    console = Console(width=width, record=True, highlight=False, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(data))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_sentence_then_the_candidates() -> None:
    lines = shown(document())
    assert lines[0] == PASS["verdict"]["sentence"]
    assert lines[2].split() == ["candidate", "size", "speed", "top1", "change", "interval"]
    assert lines[3].split() == ["float", "1.1", "MB", "×1.00", "91.60%"]
    assert lines[4].split() == ["★", "int8", "290", "kB", "×2.20", "91.64%", "+0.04", "-0.10", "to", "+0.20"]
    assert "certified        +0.04 points, 95% interval -0.08 to +0.15, 2000 samples (Tango score interval)" in lines
    assert "- a16w8: the runtime has no kernel for 16-bit activations of MaxPool (pool1)" in lines
    assert lines[-2:] == [f"advice: {PASS['advice'][0]}", f"note: {PASS['notes'][0]}"]


def test_the_signs_are_explained_below_the_table() -> None:
    lines = shown(document())
    (legend,) = [line for line in lines if line.startswith("★ chosen")]
    assert "△ failed" in legend and "waiting" not in legend
    both = [candidate("a", status="waiting"), candidate("b", status="working")]
    waiting = document(candidates=both, chosen=None)
    assert "· waiting, working" in shown(waiting)


def test_a_confidence_below_one_is_not_called_certain() -> None:
    verdict = {**PASS["verdict"], "confidence": 0.9975}
    assert any(" 99.75% interval " in line for line in shown(document(verdict=verdict)))


def test_float_is_chosen_without_being_certified() -> None:
    verdict = {"kind": "pass", "sentence": "Leave it in float.", "baseline": 0.9, "value": 0.9, "drop": None}
    assert not any(line.startswith("certified") for line in shown(document(chosen="float", verdict=verdict)))


def test_energy_where_it_is_the_objective() -> None:
    lines = shown(document(objective="energy"))
    assert lines[2].split()[3] == "energy" and "~×0.40" in lines[4]


def test_markup_and_control_characters_in_names_are_shown_not_obeyed() -> None:
    text = "\n".join(shown(hostile()))
    assert "[/red] \ufffd[31m" in text and HOSTILE in text and "\x1b" not in text
    assert f"advice: {HOSTILE} [/]" in text


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_narrow_terminals(make: Callable[[], dict[str, Any]]) -> None:
    lines = shown(make(), width=80)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("   candidate ") for line in lines)


def test_a_row_fits_a_narrow_terminal() -> None:
    row = "★  int8                          290 kB  ×2.20  91.64%   +0.04    -0.10 to +0.20"
    assert row in shown(document(), width=80)


def test_no_figure_is_cut_off_in_a_narrow_terminal() -> None:
    metric = {"name": "rmse", "higher_is_better": False, "points": False, "value": 56.7955}
    one = candidate("int8", value=56.753, drop=-0.0426, drop_low=-0.1614, drop_high=0.0886, chosen=True)
    lines = shown(document(objective="energy", metric=metric, candidates=[one], chosen="int8"), width=80)
    assert any(line.endswith("~×0.40  56.7530  -0.0426  -0.1614 to +0.0886") for line in lines)
    assert "★ chosen" in lines
