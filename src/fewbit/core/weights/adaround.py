"""AdaRound: whether each weight is rounded up or down is learned from the layer's inputs, without labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import dequantize, expand_blocks, quantize
from fewbit.core.weights.descent import check_params, checked_gram, coordinate_descent, output_error
from fewbit.errors import InputError
from fewbit.spec import QParams

# Equation 23: the sigmoid is stretched from γ to ζ and clipped, so that it reaches 0 and 1.
_GAMMA, _ZETA = -0.1, 1.1
# Equation 24: the exponent of the regularizer, first to last. A large one draws only weights that are near an end.
_FIRST_BETA, _LAST_BETA = 20.0, 2.0
# Weight of the regularizer. The paper's 0.01 is for errors in the units of the data; with errors in steps and a Gram
# matrix of mean diagonal 1, all between 0.1 and 1 end within 3 % of each other, and 0.01 leaves half of the weights
# undecided.
_LAMBDA = 0.3
# Of Adam (Kingma & Ba 2015, algorithm 1). The paper's 0.01 needs twice as many iterations for the same error.
_RATE = 0.03
_DECAY, _DECAY_SQUARE, _EPSILON = 0.9, 0.999, 1e-8
_JITTER = 0.01  # moves a weight off the exact middle of two integers, where the regularizer draws to neither


def adaround(
    w: NDArray[np.float32],
    params: QParams,
    gram: NDArray[np.floating],
    *,
    iterations: int = 2000,
    start: float = 0.2,
    seed: int = 0,
) -> NDArray[Any]:
    """Integers that lower the expected squared output error Σ_o e_o gram e_oᵀ by rounding each weight up or down.

    Minimizes it over ŵ = scale · (floor(w / scale) + h(V)) with the regularizer λ Σ 1 - |2h - 1|^β, which draws every h
    to 0 or 1 as β falls; then coordinate descent, also from nearest rounding, and each output channel keeps the better.
    So no channel does worse than nearest rounding. (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training
    Quantization", equations 20 to 24.) The result does not depend on the scale of w, of its rows or of gram.

    Args:
        w: float32, shape (O, I).
        params: scale and zero point of every block of w; they stay.
        gram: E[x xᵀ] over the layer's input vectors, shape (I, I), any float dtype.
        iterations: of Adam; each takes one product (O, I) × (I, I) in float32.
        start: share of the iterations before the regularizer acts, within 0..1; they make up for clipped weights.
        seed: of the tiny jitter that V starts with.

    Returns:
        integers of `params.spec.dtype.storage`, shape (O, I).

    Raises:
        InputError: shapes that do not fit, values that are not finite, a share outside 0..1.
    """
    gram = checked_gram(w, gram)
    check_params(w, params)
    if not 0.0 <= start <= 1.0:
        raise InputError(f"start is a share of the iterations within 0..1, not {start}")
    nearest = quantize(w, params)
    learned = _learn(w, params, gram, iterations, start, seed)
    choices = [coordinate_descent(w, q, params, gram) for q in (nearest, learned)]
    errors = [output_error(dequantize(q, params) - w, gram) for q in choices]
    return np.where((errors[1] < errors[0])[:, None], choices[1], choices[0])


def _learn(
    w: NDArray[np.float32], params: QParams, gram: NDArray[np.float64], iterations: int, start: float, seed: int
) -> NDArray[Any]:
    spec = params.spec
    scale, zero = (
        np.broadcast_to(expand_blocks(x, w.shape, spec.block_shape), w.shape) for x in (params.scale, params.zero_point)
    )
    exact = w / scale.astype(np.float64) + zero
    low = np.clip(np.floor(exact), spec.qmin, spec.qmax)
    room = (np.clip(np.floor(exact) + 1, spec.qmin, spec.qmax) - low).astype(np.float32)  # 0 where w is clipped
    part = (exact - low).astype(np.float32)
    # Rows are independent, so each may be measured in its own unit: errors in steps, whatever the weights.
    unit = (scale / np.sqrt(np.square(scale, dtype=np.float64).mean(1, keepdims=True))).astype(np.float32)
    weight = (gram / (gram.diagonal().mean() or 1.0)).astype(np.float32)
    pull = 2 * unit * room

    v = -np.log((_ZETA - _GAMMA) / (np.clip(part, 0.0, 1.0) - _GAMMA) - 1)  # h(v) = part, where the error is zero
    v += _JITTER * np.random.default_rng(seed).standard_normal(v.shape, np.float32)
    mean, square = np.zeros_like(v), np.zeros_like(v)
    warm = int(start * iterations)
    for step in range(1, iterations + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * (_ZETA - _GAMMA) + _GAMMA
        h = np.clip(stretched, 0.0, 1.0)
        slope = (unit * (room * h - part)) @ weight
        slope *= pull
        if step > warm:
            progress = (step - warm) / (iterations - warm)
            beta = _LAST_BETA + (_FIRST_BETA - _LAST_BETA) * (1 + math.cos(math.pi * progress)) / 2
            side = 2 * h - 1
            slope -= 2 * _LAMBDA * beta * np.copysign(np.abs(side) ** (beta - 1), side)
        slope *= (_ZETA - _GAMMA) * sigmoid * (1 - sigmoid) * (stretched == h)
        mean += (1 - _DECAY) * (slope - mean)
        square += (1 - _DECAY_SQUARE) * (slope * slope - square)
        spread = np.sqrt(square / (1 - _DECAY_SQUARE**step)) + _EPSILON
        v -= _RATE / (1 - _DECAY**step) * mean / spread
    return (low + room * (1 / (1 + np.exp(-v)) >= 0.5)).astype(spec.dtype.storage)
