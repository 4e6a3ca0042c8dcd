"""What `fewbit auto` tells on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from fewbit.report.auto import render
from tests.report.documents import ALL, HOSTILE, PASS, document, hostile


def shown(data: dict[str, Any], width: int = 140) -> list[str]:
    console = Console(width=width, record=True, highlight=False, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(render(data))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_sentence_then_the_candidates() -> None:
    lines = shown(document())
    assert lines[0] == PASS["verdict"]["sentence"]
    assert lines[2].split() == ["candidate", "size", "speed", "top1", "change", "interval", "standing"]
    assert lines[3].split() == ["float", "1.1", "MB", "×1.00", "91.60%"]
    assert lines[4].split() == ["★", "int8", "290", "kB", "×2.20", "91.64%", "+0.04", "-0.10", "to", "+0.20", "chosen"]
    assert "certified        +0.04 points, 95% interval -0.08 to +0.15, 2000 samples (Tango score interval)" in lines
    assert "- a16w8: the runtime has no kernel for 16-bit activations of MaxPool (pool1)" in lines
    assert lines[-2:] == [f"advice: {PASS['advice'][0]}", f"note: {PASS['notes'][0]}"]


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
    row = "★  int8            290 kB  ×2.20  91.64%   +0.04    -0.10 to +0.20  chosen"
    assert row in shown(document(), width=80)
