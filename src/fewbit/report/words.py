"""Numbers as people read them."""

from __future__ import annotations

import unicodedata
from typing import Any

# Marks that turn the direction of what follows: a name that holds one rewrites the line around it.
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def size(count: float | None) -> str:
    """Bytes with a unit."""
    if count is None:
        return "-"
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB"):
        count /= 1000
        if abs(count) < 1000:
            return f"{count:.3g} {unit}" if abs(count) < 100 else f"{count:.0f} {unit}"
    return f"{count / 1000:.3g} GB"


def decibel(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def counts(numbers: dict[str, Any]) -> str:
    """`QLinearConv 9, QLinearAdd 3`"""
    return ", ".join(f"{name} {count}" for name, count in numbers.items()) or "none"


def samples(calibration: dict[str, Any]) -> str:
    """Which samples a plan was made from, those that are not real marked as such."""
    kind = " synthetic, no real data:" if calibration.get("synthetic") else " from"
    return f"{calibration['samples']}{kind} {calibration['source']}"


def plain(text: str) -> str:
    """A name from a file as one line that can be shown anywhere.

    Control characters, halves of surrogate pairs and marks that turn the direction of text become U+FFFD: terminals obey
    the first, UTF-8 and XML cannot hold the second (nor U+FFFE and U+FFFF). White space becomes a space.
    """
    return "".join(" " if c.isspace() else "\ufffd" if _unprintable(c) else c for c in text)


def _unprintable(char: str) -> bool:
    return char in _TURNS or char in "\ufffe\uffff" or unicodedata.category(char) in ("Cc", "Cs")


def score(value: float | None, points: bool) -> str:
    """A metric's value: a share in percent, anything else with four decimals."""
    if value is None:
        return "–"
    return f"{value:.2%}" if points else f"{value:.4f}"


def signed(change: float | None, points: bool, unit: bool = True) -> str:
    """A change of a metric, in points where the metric is a share."""
    if change is None:
        return "–"
    text = f"{change * 100:+.2f}" if points else f"{change:+.4f}"
    text = text if text.strip("+-0.") else text[1:]  # nothing has no sign
    return text + (" points" if points and unit else "")


def minus(text: str) -> str:
    """A number with a real minus sign, for pages."""
    return f"−{text[1:]}" if text.startswith("-") and text[1:2].isdigit() else text
