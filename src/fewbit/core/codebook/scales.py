"""The scales of a weight that is coded by a table: absolute maximum, or the least squared error."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import MIN_SCALE
from fewbit.core.codebook.nearest import decode, encode
from fewbit.errors import InputError, RecipeError

ScaleMethod = Literal["mse", "absmax"]

_CHUNK = 1 << 20  # elements worked on at a time, so that temporaries stay small


def codebook_scales(
    rows: NDArray[np.floating],
    table: NDArray[np.floating],
    importance: NDArray[np.floating] | None = None,
    method: ScaleMethod = "mse",
) -> NDArray[np.float32]:
    """One scale a block.

    `absmax` is max |x| / max |table|. `mse` minimizes Σ importance · (x - s · c)² over the scale s and the levels c: a
    grid of ratios to `absmax`, then in turn the nearest levels for s and s = Σ w x c / Σ w c² for those levels (the
    alternation of Zhang et al. 2018, "LQ-Nets", section 3.2, with the table fixed up to its scale).

    Args:
        rows: (blocks, n), finite.
        table: (levels,) or (blocks, levels), ascending.
        importance: >= 0, broadcastable to rows, such as the mean square of each input; None for equal weights.

    Returns:
        float32 (blocks,), at least the smallest normal float32; 1 for a block that is all zero.

    Raises:
        InputError: rows or importance is not finite or of another shape, importance is negative, or the table is all
            zero.
        RecipeError: no such method.
    """
    if method not in ("mse", "absmax"):
        raise RecipeError(f"scale method {method!r} is not known; use mse or absmax")
    rows, table = np.asarray(rows, np.float32), np.asarray(table, np.float32)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"rows must be (blocks, n) with n >= 1, given {rows.shape}; reshape the weight")
    if not np.isfinite(rows).all():
        raise InputError("a weight with NaN or infinity cannot be quantized")
    peak, reach = np.abs(rows).max(1).astype(np.float64), np.abs(table).max(-1)
    if not (reach > 0).all():
        raise InputError("a table must hold a level other than zero")
    scale = _representable(np.where(peak > 0, peak / reach, 1.0))
    if method == "absmax":
        return scale
    weights = _relative(importance, rows.shape)
    ratio = np.ones(len(rows), np.float32)
    step = max(1, _CHUNK // rows.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        # Relative to absmax, squares neither overflow nor vanish.
        ratio[part] = _best_ratio(
            rows[part] / scale[part, None],
            None if weights is None else weights[part],
            table if table.ndim == 1 else table[part],
        )
    return _representable(np.where(peak > 0, ratio.astype(np.float64) * scale, 1.0))


# Below 1 the largest values are clipped; above 1 they fall on a level that is not the outermost.
_RATIOS = np.linspace(0.4, 1.3, 19, dtype=np.float32)
_REFINEMENTS = 4


def _best_ratio(
    x: NDArray[np.float32], weights: NDArray[np.float32] | None, table: NDArray[np.float32]
) -> NDArray[np.float32]:
    best = np.ones(len(x), np.float32)
    levels, least = _fit(x, weights, table, best)
    for step in range(len(_RATIOS) + _REFINEMENTS):
        if step < len(_RATIOS):
            ratio = np.full(len(x), _RATIOS[step])
        else:
            levels, _ = _fit(x, weights, table, best)
            weighted = levels if weights is None else levels * weights
            above, below = np.einsum("ij,ij->i", weighted, x), np.einsum("ij,ij->i", weighted, levels)
            ratio = np.divide(above, below, out=best.copy(), where=(above > 0) & (below > 0))
        _, error = _fit(x, weights, table, ratio)
        best = np.where(error < least, ratio, best)
        least = np.minimum(error, least)
    return best


def _fit(
    x: NDArray[np.float32], weights: NDArray[np.float32] | None, table: NDArray[np.float32], ratio: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The nearest levels under these scales, and each row's weighted squared error."""
    scale = ratio[:, None]
    levels = decode(encode(x, scale, table), 1.0, table)
    error = x - levels * scale
    return levels, np.einsum("ij,ij->i", error if weights is None else error * weights, error)


def _relative(importance: NDArray[np.floating] | None, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Importance over the largest of its row."""
    if importance is None:
        return None
    importance = np.asarray(importance)
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise InputError("importance must be finite and not negative, such as a mean of squares")
    try:
        weights = np.broadcast_to(importance, shape)
    except ValueError:
        raise InputError(f"importance of shape {importance.shape} does not broadcast to {shape}") from None
    most = weights.max(1, keepdims=True)
    return (weights / np.where(most > 0, most, 1)).astype(np.float32)


def _representable(scale: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.clip(scale, MIN_SCALE, np.finfo(np.float32).max).astype(np.float32)
