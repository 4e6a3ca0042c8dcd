"""Weights as 8-bit floats with a scale, and as bfloat16: out of range becomes the largest finite value."""

from __future__ import annotations

from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import MIN_SCALE
from fewbit.errors import InputError, RecipeError

Float8 = Literal["e4m3fn", "e5m2"]

FLOAT8: dict[str, np.dtype[Any]] = {
    "e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
"""Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1; ONNX FLOAT8E4M3FN and FLOAT8E5M2."""


def fp8_scales(rows: NDArray[np.floating], name: Float8) -> NDArray[np.float32]:
    """One scale a row, so that its largest magnitude becomes the largest finite value, 448 or 57344.

    Args:
        rows: (blocks, n), finite.

    Returns:
        float32 (blocks,), at least the smallest normal float32; 1 for a row that is all zero.

    Raises:
        InputError: rows is not (blocks, n) or not finite.
        RecipeError: no such format.
    """
    largest = _largest(_float8(name))
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"rows must be (blocks, n) with n >= 1, given {rows.shape}; reshape the weight")
    _require_finite(rows)
    peak = np.abs(rows).max(1).astype(np.float64)
    return np.where(peak > 0, np.maximum(peak / largest, MIN_SCALE), 1.0).astype(np.float32)


def to_fp8(x: NDArray[np.floating], name: Float8, scale: NDArray[np.floating] | float) -> NDArray[Any]:
    """x / scale rounded to the nearest 8-bit float, ties to even, saturating.

    Micikevicius et al. 2022, "FP8 Formats for Deep Learning", section 3.1; ONNX `QuantizeLinear` with saturate = 1.

    Args:
        x: any shape, finite.
        scale: > 0, broadcastable to x.

    Returns:
        `FLOAT8[name]`, in the shape of x; `.view(numpy.uint8)` gives the codes.

    Raises:
        InputError: x is not finite, or scale is not finite and positive.
        RecipeError: no such format.
    """
    dtype = _float8(name)
    _require_finite(x)
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.asarray(np.divide(x, _positive(scale), dtype=np.float32))
    return _saturate(ratio, dtype)


def from_fp8(values: NDArray[Any], scale: NDArray[np.floating] | float) -> NDArray[np.float32]:
    """values · scale in float32, for what `to_fp8` returned with this scale.

    Raises:
        InputError: values is not of an 8-bit float dtype, or scale is not finite and positive.
    """
    if values.dtype not in FLOAT8.values():
        raise InputError(f"8-bit floats are {', '.join(FLOAT8)}, given {values.dtype}; view the codes as one of them")
    return np.asarray(values.astype(np.float32) * _positive(scale))


def to_bfloat16(x: NDArray[np.floating]) -> NDArray[Any]:
    """x rounded to the nearest bfloat16, ties to even, saturating at ±3.3895e38; in the shape of x.

    Raises:
        InputError: x is not finite.
    """
    _require_finite(x)
    return _saturate(x, np.dtype(ml_dtypes.bfloat16))


def _saturate(x: NDArray[np.floating], dtype: np.dtype[Any]) -> NDArray[Any]:
    # The cast itself turns what is too large into NaN (e4m3fn) or infinity.
    largest = _largest(dtype)
    return np.clip(x, -largest, largest).astype(np.float32).astype(dtype)


def _largest(dtype: np.dtype[Any]) -> np.float32:
    return np.float32(ml_dtypes.finfo(dtype).max)


def _float8(name: str) -> np.dtype[Any]:
    if name not in FLOAT8:
        raise RecipeError(f"8-bit float {name!r} is not known; use one of {', '.join(FLOAT8)}")
    return FLOAT8[name]


def _positive(scale: NDArray[np.floating] | float) -> NDArray[np.float32]:
    scale = np.asarray(scale, np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(f"a scale must be finite and positive, given {scale.min()}..{scale.max()}")
    return scale


def _require_finite(x: NDArray[np.floating]) -> None:
    if not np.isfinite(x).all():
        raise InputError("a value to cast is NaN or infinite; clip the values or leave the tensor in float")
