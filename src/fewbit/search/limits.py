"""What a user can tolerate, as people write it: drops of a metric, sizes of files, ratios."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fewbit.errors import RecipeError

_SIZE_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_POINT = 0.01
_AS_POINTS = 0.1
"""From here on, a bare number for a metric that is a share stands for points: half a point is written 0.5 as often as
0.005, and nobody tolerates the loss of half of all answers."""
_DEFAULT_POINTS = 0.5
_DEFAULT_SHARE = 0.01  # of the float value, for metrics that are no share


@dataclass(frozen=True, slots=True)
class MaxDrop:
    """The drop that is tolerated, in the metric's own unit, and in words."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep to, beside the drop.

    max_size: bytes of the file. max_latency_ratio: its time over that of the float model. max_memory: bytes that loading and
    running it takes.
    """

    max_size: int | None = None
    max_latency_ratio: float | None = None
    max_memory: int | None = None

    def broken(self, bytes: int, speed_up: float | None, memory: int | None) -> str | None:
        """Which of them a candidate breaks, and by what figure; None where it keeps to all that is known of it."""
        if self.max_size is not None and bytes > self.max_size:
            return f"{bytes} bytes, and at most {self.max_size} are asked for"
        if self.max_latency_ratio is not None and speed_up is not None and 1 / speed_up > self.max_latency_ratio:
            return f"{1 / speed_up:.2f} of the float time, and at most {self.max_latency_ratio:g} is asked for"
        if self.max_memory is not None and memory is not None and memory > self.max_memory:
            return f"{memory} bytes of memory, and at most {self.max_memory} are asked for"
        return None


def max_drop(given: str | float | None, *, share: bool, baseline: float) -> MaxDrop:
    """The drop that is meant.

    Args:
        given: `0.5pt` or `0.5 points` (hundredths), `1%` of the float model's value, or a number in the metric's own
            unit, which for a share stands for points from 0.1 on. None: half a point of a share, 1 % of anything else.
        share: whether the metric is one, between 0 and 1.
        baseline: the float model's value.

    Raises:
        RecipeError: another form, or below zero.
    """
    if given is None:
        return max_drop(f"{_DEFAULT_POINTS}pt" if share else f"{_DEFAULT_SHARE:.0%}", share=share, baseline=baseline)
    match = re.fullmatch(r"([0-9.]+(?:e-?\d+)?)\s*(|%|pt|pts|points?)", str(given).strip(), re.IGNORECASE)
    try:
        number = float(match[1]) if match else -1.0
    except ValueError:
        number = -1.0
    if match is None or number < 0:
        raise RecipeError(f"max-drop {given!r} is no drop: write 0.005, 0.5pt (points), or 1% (of the float value)")
    unit = match[2].lower()
    if unit == "%":
        return MaxDrop(number / 100 * abs(baseline), f"{number:g} % of {baseline:.4g}")
    if unit or (share and number >= _AS_POINTS):
        return MaxDrop(number * _POINT, f"{number:g} points" if number != 1 else "1 point")
    if share:
        return MaxDrop(number, f"{number / _POINT:g} points")
    return MaxDrop(number, f"{number:g}")


def check_max_drop(given: str | float | None) -> None:
    """Raise RecipeError for a drop of another form, before there is a value to apply it to."""
    max_drop(given, share=True, baseline=1.0)


def size(text: str | int | None, what: str) -> int | None:
    """Bytes of `500kB`, `1.5MB`, `256KiB` or a number.

    Raises:
        RecipeError: another form, or not above zero.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b?)", str(text).strip(), re.IGNORECASE)
    unit = match[2].lower() if match else "?"
    unit = unit if unit.endswith("b") or not unit else f"{unit}b"
    value = int(float(match[1]) * _SIZE_UNITS[unit]) if match and unit in _SIZE_UNITS else 0
    if value <= 0:
        raise RecipeError(f"{what} {text!r} is no size above zero: write 500kB, 1.5MB or 256KiB")
    return value


def ratio(value: Any, what: str) -> float | None:
    """A ratio above zero. Raises RecipeError for another."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise RecipeError(f"{what} {value!r} is no ratio above zero: 0.5 asks for half of the float model's time")
    return number
