"""Values to the index of the nearest level, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import InputError

_CHUNK = 1 << 16  # values compared at a time, so that they and their indices stay in the second-level cache


def encode(
    x: NDArray[np.floating], scale: NDArray[np.floating] | float, table: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Index of the level nearest to x / scale, in float32; half way between two levels, the lower index.

    Args:
        x: any shape for one table; (blocks, n) for one table a block.
        scale: > 0, broadcastable to x; for one table a block usually (blocks, 1).
        table: (levels,) or (blocks, levels), ascending, 2 to 256 levels. Equal levels are interchangeable.

    Returns:
        uint8, in the shape of x.

    Raises:
        InputError: x, scale or table is not finite, scale is not positive, the table is not ascending or its shape
            does not fit.
    """
    x, scale, table = np.asarray(x), np.asarray(scale), np.asarray(table, np.float32)
    _check(x.shape, scale, table)
    if not np.isfinite(x).all():
        raise InputError("a value to encode is NaN or infinite; clip the values or leave the tensor in float")
    thresholds = _thresholds(table)
    with np.errstate(over="ignore", under="ignore"):  # beyond float32 lies beyond the table
        ratio = np.asarray(np.divide(x, scale, dtype=np.float32))
    work = ratio.reshape(-1) if table.ndim == 1 else ratio
    step = _CHUNK if table.ndim == 1 else max(1, _CHUNK // max(x.shape[1], 1))
    indices = np.zeros(work.shape, np.uint8)
    for start in range(0, len(work), step):
        part = slice(start, start + step)
        # One comparison a level is quicker than a binary search, whose branches a processor cannot predict.
        for threshold in thresholds if table.ndim == 1 else thresholds[:, part, None]:
            indices[part] += work[part] > threshold
    return indices.reshape(x.shape)


def decode(
    indices: NDArray[np.unsignedinteger], scale: NDArray[np.floating] | float, table: NDArray[np.floating]
) -> NDArray[np.float32]:
    """table[indices] · scale in float32, in the shape of indices; arguments as in `encode`.

    Raises:
        InputError: an index beyond the table, or the faults of scale and table that `encode` names.
    """
    indices, scale, table = np.asarray(indices), np.asarray(scale), np.asarray(table, np.float32)
    _check(indices.shape, scale, table)
    if indices.size and int(indices.max()) >= table.shape[-1]:
        raise InputError(
            f"index {int(indices.max())} is beyond a table of {table.shape[-1]} levels; use the table of the encoding"
        )
    levels = table[indices] if table.ndim == 1 else np.take_along_axis(table, indices.astype(np.intp), 1)
    return np.asarray(levels * scale.astype(np.float32))


def _thresholds(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """The last float32 that is not nearer to the upper of two neighbours: (levels - 1,) or (levels - 1, blocks)."""
    middle = (table[..., :-1].astype(np.float64) + table[..., 1:]) / 2
    below = middle.astype(np.float32)
    below = np.where(below > middle, np.nextafter(below, np.float32(-np.inf)), below)
    return np.ascontiguousarray(below.T)


def _check(shape: tuple[int, ...], scale: NDArray[np.floating], table: NDArray[np.float32]) -> None:
    if table.ndim not in (1, 2) or not 2 <= table.shape[-1] <= 256:
        raise InputError(f"a table is (levels,) or (blocks, levels) with 2 to 256 levels, given {table.shape}")
    if table.ndim == 2 and (len(shape) != 2 or shape[0] != table.shape[0]):
        raise InputError(f"{table.shape[0]} tables need values of shape ({table.shape[0]}, n), given {shape}")
    if not np.isfinite(table).all() or (np.diff(table) < 0).any():
        raise InputError("the levels of a table must be finite and ascending; sort them")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InputError(f"a scale must be finite and positive, given {scale.min()}..{scale.max()}")
    try:
        fits = np.broadcast_shapes(shape, scale.shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(f"a scale of shape {scale.shape} does not broadcast to values of shape {shape}")
