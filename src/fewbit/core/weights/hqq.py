"""Half-quadratic quantization: scales and zero points that leave a few large errors and many small ones; no inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import MIN_SCALE
from fewbit.core.weights.blocks import Blocks
from fewbit.core.weights.scales import WeightRange, weight_params
from fewbit.errors import InputError
from fewbit.spec import QParams, QSpec

_STARTS: tuple[WeightRange, ...] = ("absmax", "mse")


def hqq_params(
    w: NDArray[np.float32],
    spec: QSpec,
    *,
    p: float = 0.7,
    iterations: int = 20,
    beta: float = 10.0,
    kappa: float = 1.01,
) -> QParams:
    """Scale and zero point of every block of a weight that lower Σ |w - q(w)|^p within the block.

    Alternates between the part W_e of the error that is left as it is (generalized soft threshold, sub-problem 1) and
    the parameters that fit w - W_e best in the least-squares sense with the integers held (sub-problem 2), until the
    objective of no block falls. Starts from the block's extremes and from the range of least squared error; the best
    parameters met are kept, so no block does worse than either. (Badri & Shaji 2023, "Half-Quadratic Quantization of
    Large Machine Learning Models"; the defaults are theirs.)

    The source optimizes a real zero point at a fixed scale. With the integer ones of `QParams` that does nothing: they
    change no rounding error, only what is clipped, and at the scale of the extremes nothing is. So sub-problem 2 is
    solved for both, by regression of w - W_e on the integers with the zero point rounded; with a symmetric spec for the
    scale alone. Errors are measured in steps, so that beta does not depend on how large the weights are.

    Args:
        w: float32, any shape.
        spec: dtype, block shape, symmetry.
        p: norm of the error, 0 < p ≤ 1; the smaller, the less outliers count.
        iterations: at most so many from each start.
        beta: weight of the quadratic coupling, > 0; kappa: its growth an iteration, ≥ 1.

    Returns:
        parameters on the grid of blocks.

    Raises:
        InputError: w is not finite, the block shape does not fit, or an option is out of range.
    """
    if not (0.0 < p <= 1.0 and beta > 0.0 and kappa >= 1.0):
        raise InputError(f"p must be within 0..1, beta > 0 and kappa ≥ 1, not p={p}, beta={beta}, kappa={kappa}")
    starts = [weight_params(w, spec, method=method) for method in _STARTS]
    blocks = Blocks(w.shape, spec.block_shape)
    unit = starts[0].scale.reshape(-1, 1)
    x = blocks.split(w) / unit
    real = np.broadcast_to(blocks.split(np.ones_like(w)), x.shape)  # 0 where a short last block was filled up
    count = real.sum(1, keepdims=True)
    best, least = np.empty((2, *unit.shape), np.float32), np.full(unit.shape, np.inf)
    for start in starts:
        scale, zero = start.scale.reshape(-1, 1) / unit, start.zero_point.reshape(-1, 1).astype(np.float32)
        coupling, before = beta, np.full(unit.shape, np.inf)
        for _ in range(iterations + 1):
            q = np.clip(np.rint(x / scale + zero), spec.qmin, spec.qmax)
            error = x - (q - zero) * scale
            size = np.abs(error)
            objective = (size**p).sum(1, keepdims=True)
            better = objective < least
            best, least = np.where(better, (scale, zero), best), np.where(better, objective, least)
            if not (objective < before).any():
                break
            before = objective
            # 0 ** (p - 1) is infinite, and every tiny error is left to the integers anyway.
            kept = np.copysign(np.maximum(size - np.maximum(size, 1e-6) ** (p - 1) / coupling, 0.0), error)
            scale, zero = _fit(q, x - kept, real, count, scale, zero, spec)
            coupling *= kappa
    scale = np.maximum(best[0] * unit, MIN_SCALE).astype(np.float32)
    return QParams(spec, scale.reshape(blocks.grid), best[1].astype(np.int32).reshape(blocks.grid))


def _fit(
    q: NDArray[np.float32],
    target: NDArray[np.float32],
    real: NDArray[np.floating],
    count: NDArray[np.floating],
    scale: NDArray[np.float32],
    zero: NDArray[np.float32],
    spec: QSpec,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and zero point of every row with the least Σ (target - (q - zero) · scale)²; those given where none is."""
    if not spec.symmetric:
        middle, level = ((real * v).sum(1, keepdims=True) / count for v in (q, target))
        slope = _ratio((real * (q - middle) * target), real * (q - middle) ** 2, scale)
        zero = np.clip(np.rint(middle - level / slope), spec.qmin, spec.qmax)
    offset = q - zero
    return _ratio(offset * target, offset * offset, scale), zero


def _ratio(
    above: NDArray[np.float32], below: NDArray[np.float32], otherwise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Σ above / Σ below of every row, or `otherwise` where that is not positive."""
    top, bottom = above.sum(1, keepdims=True), below.sum(1, keepdims=True)
    return np.where(top > 0.0, top / np.where(bottom > 0.0, bottom, 1.0), otherwise)
