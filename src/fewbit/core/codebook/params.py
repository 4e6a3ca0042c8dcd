"""Parameters of a weight in a non-uniform format: a table, fixed or learned, with a scale a block; or 8-bit floats."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewbit.core.codebook import KMEANS, table
from fewbit.core.codebook.floats import Float8, fp8_scales
from fewbit.core.codebook.kmeans import kmeans_1d
from fewbit.core.codebook.nearest import decode, encode
from fewbit.core.codebook.scales import ScaleMethod, codebook_scales
from fewbit.core.floats import float16_scales
from fewbit.core.weights.blocks import Blocks
from fewbit.spec import QParams, QSpec

_LEARN_FROM = 1 << 16  # values, of whole blocks: four times as many gain 0.005 dB (normal and t-distributed weights)
_ROUNDS = 8
_SETTLED = 1e-3  # relative gain of a round below which the next ones do not pay


def codebook_params(
    w: NDArray[np.float32], spec: QSpec, *, method: ScaleMethod = "mse", importance: NDArray[np.floating] | None = None
) -> QParams:
    """The table and the scales of a weight whose spec names a codebook, or the scales of one stored as 8-bit floats.

    Args:
        w: float32, any shape, finite.
        spec: its `codebook` is `kmeans` or a name of `fewbit.core.codebook.TABLES`, its dtype uint2 to uint8; or it has
            no codebook and an 8-bit float dtype.
        method: of the scales, as in `codebook_scales`; 8-bit floats always span the largest magnitude.
        importance: broadcastable to w, such as the mean square of each input channel; None for equal weights.

    Returns:
        parameters on the grid of blocks; more than one scale is rounded to float16, where that has normal numbers for
        them all, so that they can be stored in half the space.

    Raises:
        InputError: w is not finite, or the block shape does not fit.
        RecipeError: no such table or method.
    """
    blocks = Blocks(w.shape, spec.block_shape)
    rows = blocks.split(w)
    levels = None
    if spec.codebook is None:
        scale = fp8_scales(rows, cast(Float8, spec.dtype.kind))
    else:
        weights = None if importance is None else np.broadcast_to(importance, w.shape)
        if rows.size > w.size:  # the zeros that fill short blocks do not count
            weights = np.ones(w.shape, np.float32) if weights is None else weights
        weights = None if weights is None else blocks.split(weights)
        if spec.codebook == KMEANS:
            levels = learn_table(rows, 1 << spec.dtype.bits, weights, method)
        else:
            levels = table(spec.codebook, spec.dtype.bits)
        scale = codebook_scales(rows, levels, weights, method)
    scale = float16_scales(scale.reshape(blocks.grid))
    return QParams(spec, scale, np.zeros(scale.shape, np.int32), levels)


def learn_table(
    rows: NDArray[np.float32],
    levels: int,
    importance: NDArray[np.floating] | None = None,
    method: ScaleMethod = "mse",
) -> NDArray[np.float32]:
    """One table for all blocks, each of which has a scale of its own.

    Minimizes Σ importance · (x - scale · level)² by turns: the levels by k-means over x / scale, each value weighing
    importance · scale², then the scales for these levels. It starts from evenly spaced levels and keeps the best table, so
    it is no worse than these.

    Args:
        rows: (blocks, n), finite. importance: (blocks, n), >= 0, or None.

    Returns:
        float32 (levels,), ascending.
    """
    step = max(1, rows.size // _LEARN_FROM)
    rows = rows[::step]
    importance = None if importance is None else importance[::step]
    best = np.linspace(-1.0, 1.0, levels, dtype=np.float32)
    least = np.inf
    trial = best
    for _ in range(_ROUNDS):
        scale = codebook_scales(rows, trial, importance, method)[:, None]
        squares = np.square(decode(encode(rows, scale, trial), scale, trial) - rows)
        error = float(np.sum(squares if importance is None else squares * importance, dtype=np.float64))
        gained = error < least * (1 - _SETTLED)
        if error < least:
            best, least = trial, error
        if not gained:
            break
        weight = np.broadcast_to(scale**2, rows.shape)
        trial = kmeans_1d(rows / scale, levels, weight if importance is None else weight * importance)
    return best
