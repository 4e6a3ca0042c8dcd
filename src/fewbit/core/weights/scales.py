"""The scales of a weight: absolute maximum, or the least squared error over a grid of clipped maxima."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import params_from_range
from fewbit.core.weights.blocks import Blocks
from fewbit.errors import InputError
from fewbit.spec import QParams, QSpec

WeightRange = Literal["mse", "absmax"]

_CHUNK = 1 << 20  # elements worked on at a time, so that temporaries stay small


def weight_params(
    w: NDArray[np.float32],
    spec: QSpec,
    *,
    method: WeightRange = "mse",
    importance: NDArray[np.floating] | None = None,
    norm: float = 2.0,
) -> QParams:
    """Scale and zero point of every block of a weight.

    Args:
        w: float32, any shape.
        spec: dtype, block shape, symmetry.
        method: `absmax` spans the block's extremes; `mse` shrinks them by the ratio that minimizes
            Σ importance · |w - q(w)|^norm within the block.
        importance: broadcastable to w, such as the mean square of each input channel; None for equal weights.
        norm: p of the Lp norm of `mse`, squares unless given (Nahshan et al. 2021, "Loss Aware Post-Training Quantization",
            section 4.1).

    Returns:
        parameters on the grid of blocks.

    Raises:
        InputError: w is not finite, or the block shape does not fit.
    """
    blocks = Blocks(w.shape, spec.block_shape)
    rows = blocks.split(w)
    low, high = rows.min(-1), rows.max(-1)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise InputError("a weight with NaN or infinity cannot be quantized")
    if method == "mse":
        weights = None if importance is None else blocks.split(np.broadcast_to(importance, w.shape))
        shrink = _best_ratio(rows, weights, low, high, spec, norm)
        low, high = low * shrink, high * shrink
    grid = blocks.grid
    return params_from_range(low.reshape(grid), high.reshape(grid), spec)


def _best_ratio(
    rows: NDArray[np.float32],
    importance: NDArray[np.floating] | None,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    spec: QSpec,
    norm: float,
) -> NDArray[np.float32]:
    """For each row, the share of its extremes that gives the least error."""
    bits = spec.dtype.bits
    # At 8 bits little is gained below 0.8; the fewer the bits, the more clipping pays.
    ratios = np.linspace(1.0, 0.85 if bits >= 8 else 0.3, 8 if bits >= 8 else 36, dtype=np.float32)
    best = np.ones(rows.shape[0], np.float32)
    step = max(1, _CHUNK // max(rows.shape[1], 1))
    for start in range(0, rows.shape[0], step):
        part = slice(start, start + step)
        row, weight = rows[part], None if importance is None else importance[part]
        least = np.full(row.shape[0], np.inf)
        for ratio in ratios:
            params = params_from_range(low[part] * ratio, high[part] * ratio, spec)
            scale, zero = params.scale[:, None], params.zero_point[:, None].astype(np.float32)
            q = row / scale
            np.rint(q, out=q)
            np.maximum(q, spec.qmin - zero, out=q)  # twice as fast as np.clip with arrays
            np.minimum(q, spec.qmax - zero, out=q)
            q *= scale
            q -= row
            if norm != 2.0:
                q = np.abs(q) ** np.float32(norm / 2)
            if weight is None:
                error = np.einsum("ij,ij->i", q, q)
            else:
                error = np.einsum("ij,ij,ij->i", q, q, weight.astype(np.float32, copy=False))
            better = error < least
            least = np.where(better, error, least)
            best[part] = np.where(better, ratio, best[part])
    return best
