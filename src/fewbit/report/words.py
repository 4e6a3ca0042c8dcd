"""Numbers as people read them."""

from __future__ import annotations

from typing import Any


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
