"""Constants that a narrower format holds without loss, and float16 storage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOAT16_MAX = 65504.0
_FLOAT16_NORMAL = float(np.finfo(np.float16).tiny)


def exact_step(x: NDArray[np.float32], largest: int = 127) -> float | None:
    """A step so that every value is exactly an integer of at most `largest` times it (in float32), or None.

    Masks, one-hot tables and small counters are such constants.
    """
    magnitudes = np.abs(x[x != 0.0])
    if not magnitudes.size:
        return 1.0
    if not np.isfinite(magnitudes).all():
        return None
    step = float(magnitudes.min())
    integers = np.rint(x / np.float32(step))
    if np.abs(integers).max() > largest or not np.array_equal(integers.astype(np.float32) * np.float32(step), x):
        return None
    return step


def is_exact_float16(x: NDArray[np.float32]) -> bool:
    """Whether float16 holds every value exactly."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(x.astype(np.float16).astype(np.float32), x))


def to_float16(x: NDArray[np.float32]) -> tuple[NDArray[np.float16], int]:
    """float16 values, clamped to ±65504, and how many were clamped (float16 has no larger finite value)."""
    clamped = int((np.abs(x) > FLOAT16_MAX).sum())
    return np.clip(x, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16), clamped


def float16_scales(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """More than one scale rounded to what float16 holds, where that has normal numbers for them all; else as they are."""
    half = np.clip(scale, _FLOAT16_NORMAL, FLOAT16_MAX).astype(np.float16).astype(np.float32)
    return half if scale.size > 1 and np.allclose(half, scale, rtol=2.0**-11, atol=0.0) else scale
