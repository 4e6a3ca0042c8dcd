"""Bias correction: the mean error that rounded weights add to an output channel is taken off its bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def output_shift(
    error: NDArray[np.floating], input_mean: NDArray[np.floating], *, out_axis: int, in_axis: int, groups: int = 1
) -> NDArray[np.float64]:
    """E[ε x] for every output channel, where ε = W_quantized - W (Nagel et al. 2019, "Data-Free Quantization Through
    Weight Equalization and Bias Correction", equations 16 and 17).

    Args:
        error: ε, of the weight's shape.
        input_mean: mean of each input channel over samples and positions, shape (groups · I,) for a weight with I inputs.
        out_axis, in_axis: the weight's output and input channel axes; all others are summed (kernel positions).
        groups: of a convolution: output channel o reads the inputs of group o // (O / groups).

    Returns:
        shape (O,), float64: subtract it from the bias.
    """
    axes = tuple(a for a in range(error.ndim) if a not in (out_axis % error.ndim, in_axis % error.ndim))
    table = error.sum(axes, dtype=np.float64)
    if out_axis % error.ndim > in_axis % error.ndim:
        table = table.T  # (O, I)
    outputs, inputs = table.shape
    means = np.asarray(input_mean, np.float64).reshape(groups, inputs)
    return np.einsum("goi,gi->go", table.reshape(groups, outputs // groups, inputs), means).reshape(outputs)


def tap_coverage(size: int, taps: int, *, stride: int, dilation: int, before: int, after: int) -> NDArray[np.float64]:
    """For each tap of a kernel along one axis, the share of output positions at which it lies inside the input.

    Outside lies padding, which is exactly zero: an error of that tap adds nothing there. On small maps that is most of
    the border, and a correction that ignored it would overshoot.

    Args:
        size: of the input axis. before, after: padding.

    Returns:
        shape (taps,), within 0..1.
    """
    reach = (taps - 1) * dilation + 1
    outputs = max((size + before + after - reach) // stride + 1, 1)
    position = np.arange(outputs)[None] * stride + np.arange(taps)[:, None] * dilation - before
    return ((position >= 0) & (position < size)).mean(1)
