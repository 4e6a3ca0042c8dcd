"""Sequential MSE: the scales of a weight by the error that they leave at the layer's output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import block_grid, fake_quantize, params_from_range
from fewbit.core.weights.descent import checked_gram, output_error
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import QParams, QSpec


def sequential_mse_params(
    w: NDArray[np.float32], spec: QSpec, gram: NDArray[np.floating], *, candidates: int = 20
) -> QParams:
    """Scale and zero point of every block of a weight by the least expected squared output error Σ_o e_o gram e_oᵀ.

    Each block's extremes are shrunk by the ratio that gives the least error. Groups are searched one after the other,
    each beside the error of those already fixed, then once more beside that of all others. An output channel for which
    that ends above the error of the extremes keeps the extremes. (Sequential MSE of the AI Model Efficiency Toolkit,
    which searches candidates of the maximum by the error at a layer's output; the order of groups is of this module.)

    Args:
        w: float32, shape (O, I).
        spec: dtype, symmetry and block shape, which must be (), (1, -1) or (1, group).
        gram: E[x xᵀ] over the layer's input vectors, shape (I, I), any float dtype.
        candidates: ratios tried, evenly spaced from 1 down to 0.85 (8 bits and more) or 0.3; at least 1.

    Returns:
        parameters on the grid of blocks.

    Raises:
        InputError: shapes that do not fit, values that are not finite, another block shape, no candidate.
    """
    gram = checked_gram(w, gram)
    grid = block_grid(w.shape, spec.block_shape)
    if grid and grid[0] != len(w):
        raise InputError(f"block shape {spec.block_shape} spans output channels; use (), (1, -1) or (1, group)")
    if candidates < 1:
        raise InputError(f"at least one candidate ratio is needed, not {candidates}")
    # At 8 bits little is gained below 0.85; the fewer the bits, the more clipping pays.
    ratios = np.linspace(1.0, 0.85 if spec.dtype.bits >= 8 else 0.3, candidates)
    weight = (gram / (gram.diagonal().max(initial=0.0) or 1.0)).astype(np.float32)
    size = w.shape[1] if not grid or spec.block_shape[1] == -1 else spec.block_shape[1]
    starts = range(0, w.shape[1], size)
    plain = weight_params(w, spec, method="absmax")
    scale, zero_point = np.array(plain.scale), np.array(plain.zero_point)
    rows = replace(spec, block_shape=(1, -1) if grid else ())
    axes, keep = (1, True) if grid else ((0, 1), False)
    error = np.zeros_like(w)  # a group not searched yet counts as exact
    for group, start in [*enumerate(starts)] * min(len(starts), 2):
        part = slice(start, start + size)
        place = (slice(None), slice(group, group + 1)) if grid else ()
        block, own = w[:, part], weight[part, part]
        others = 2 * (error @ weight[:, part] - error[:, part] @ own)
        low, high = block.min(axes, keepdims=keep), block.max(axes, keepdims=keep)
        least = np.full(low.shape, np.inf)
        for ratio in ratios:
            params = params_from_range(low * ratio, high * ratio, rows)
            trial = fake_quantize(block, params) - block
            loss = np.sum((trial @ own + others) * trial, axes, np.float64, keepdims=keep)
            better = loss < least
            least = np.where(better, loss, least)
            scale[place] = np.where(better, params.scale, scale[place])
            zero_point[place] = np.where(better, params.zero_point, zero_point[place])
            error[:, part] = np.where(better, trial, error[:, part])
    if len(starts) > 1:
        worse = output_error(error, gram) > output_error(fake_quantize(w, plain) - w, gram)
        scale[worse], zero_point[worse] = plain.scale[worse], plain.zero_point[worse]
    return QParams(spec, scale, zero_point)
