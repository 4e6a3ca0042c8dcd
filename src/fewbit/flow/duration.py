"""Durations as people write them."""

from __future__ import annotations

import re

from fewbit.errors import RecipeError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str | float) -> float:
    """Seconds of `90`, `90s`, `15m` or `1.5h`.

    Raises:
        RecipeError: another form, or not above zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", str(text).strip())
    value = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if value <= 0.0:
        raise RecipeError(f"{text!r} is no duration above zero: write 90s, 15m or 1.5h")
    return value
