"""GPTQ: weights rounded one input at a time, the error of each made good by those that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from fewbit.core.weights.pairs import pair_bounds
from fewbit.errors import InputError

_BLOCK = 64  # columns whose errors are passed on by one matrix product


def gptq(
    w: NDArray[np.floating],
    gram: NDArray[np.floating],
    scale: NDArray[np.floating],
    zero_point: NDArray[np.integer],
    qmin: int,
    qmax: int,
    *,
    damping: float = 0.01,
    pair_limit: int | None = None,
) -> NDArray[np.float32]:
    """Integers (as float32) that keep tr(E · gram · Eᵀ), E = (q - zero_point) · scale - w, small.

    Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
    algorithm 1, with columns in the order of falling diagonal of the Gram matrix (act-order of their code). Scales are
    given beforehand, so that groups stay where they are in memory. Layers that consist of many independent small ones
    (depthwise and grouped convolutions) are done at once, along leading axes.

    Args:
        w: (..., O, K), float32 or float64.
        gram: (..., K, K), E[x xᵀ] of the inputs of the layer, symmetric and positive semidefinite.
        scale, zero_point: broadcastable to w.
        damping: share of the mean diagonal that is added to the diagonal.
        pair_limit: if given, integers of one sign of the columns 2j and 2j + 1 add up to at most so much (see `pairs`).

    Returns:
        (..., O, K), float32, integral, within qmin..qmax.

    Raises:
        InputError: shapes do not match, or a value is not finite, or a scale or the damping is not positive.
    """
    shape, outputs, inputs = w.shape, *w.shape[-2:]
    if gram.shape != (*shape[:-2], inputs, inputs):
        wanted = (*shape[:-2], inputs, inputs)
        raise InputError(f"a weight of shape {shape} takes a Gram matrix of {wanted}, not {gram.shape}")
    if not (np.isfinite(w).all() and np.isfinite(gram).all()):
        raise InputError("GPTQ takes finite weights and a finite Gram matrix; check the samples for NaN and infinity")
    if not (np.min(scale, initial=1.0) > 0.0 and damping > 0.0):
        raise InputError(f"GPTQ takes scales and a damping above 0, not {np.min(scale)} and {damping}")
    low, high = (np.asarray(qmin, np.float32), np.asarray(qmax, np.float32))
    if pair_limit is not None:
        low, high = pair_bounds(w / scale, qmin, qmax, pair_limit)
    gram = gram.reshape(-1, inputs, inputs)
    diagonal = np.einsum("gii->gi", gram)
    order = np.argsort(-diagonal, axis=-1, kind="stable")
    groups = np.arange(len(order))[:, None]

    def columns(a: NDArray[Any]) -> NDArray[np.float32]:
        """(groups, K, O) in the order of the work, so that a column is contiguous."""
        whole = np.broadcast_to(a, shape).reshape(-1, outputs, inputs)
        return np.asarray(whole.transpose(0, 2, 1)[groups, order], np.float32, order="C")

    real, step, middle = columns(w), columns(scale), columns(zero_point)
    low, high = columns(low), columns(high)
    factor = _factor(gram, order, diagonal, damping)
    pivots = np.ascontiguousarray(np.einsum("gii->gi", factor))[..., None]
    q = np.empty_like(real)
    errors = np.empty((len(real), _BLOCK, outputs), np.float32)
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        for i in range(start, stop):
            column = real[:, i]
            if i > start:
                column -= (factor[:, None, start:i, i] @ errors[:, : i - start])[:, 0]
            q[:, i] = np.clip(np.rint(column / step[:, i] + middle[:, i]), low[:, i], high[:, i])
            errors[:, i - start] = (column - (q[:, i] - middle[:, i]) * step[:, i]) / pivots[:, i]
        real[:, stop:] -= factor[:, start:stop, stop:].transpose(0, 2, 1) @ errors[:, : stop - start]
    restored = np.empty_like(q)
    restored[groups, order] = q
    return np.ascontiguousarray(restored.transpose(0, 2, 1)).reshape(shape)


def _factor(
    gram: NDArray[np.floating], order: NDArray[np.integer], diagonal: NDArray[np.floating], damping: float
) -> NDArray[np.float32]:
    """The upper Cholesky factor U of the inverse, gram⁻¹ = Uᵀ U, with rows and columns in the given order."""
    groups, index = np.arange(len(gram))[:, None, None], np.arange(gram.shape[-1])
    h = gram[groups, order[:, :, None], order[:, None, :]].astype(np.float64)
    mean = diagonal.mean(-1, dtype=np.float64)[:, None]
    h[:, index, index] += np.where(mean > 0.0, damping * mean, 1.0)
    # The inverse's upper factor is the lower factor of the reversed matrix, inverted and reversed: one factorization.
    lower = np.linalg.cholesky(h[:, ::-1, ::-1])
    if len(lower) == 1:
        inverse = dtrtri(lower[0], lower=1)[0][None]
    else:
        inverse = np.linalg.solve(lower, np.broadcast_to(np.eye(len(index)), lower.shape))
    return np.ascontiguousarray(inverse[:, ::-1, ::-1], np.float32)
