"""GPTQ: weights rounded one input at a time, the error of each made good by those that follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from fewbit.errors import InputError

_BLOCK = 128  # columns whose errors are passed on by one matrix product


def gptq(
    w: NDArray[np.floating],
    gram: NDArray[np.floating],
    scale: NDArray[np.floating],
    zero_point: NDArray[np.integer],
    qmin: int,
    qmax: int,
    *,
    damping: float = 0.01,
) -> NDArray[np.float32]:
    """Integers (as float32) that keep tr(E · gram · Eᵀ), E = (q - zero_point) · scale - w, small.

    Frantar et al. 2023, "GPTQ", algorithm 1, with columns in the order of falling diagonal of the Gram matrix (section 5,
    act-order). Scales are given beforehand, so that groups stay where they are in memory. Layers that consist of many
    independent small ones (depthwise and grouped convolutions) are done at once, along leading axes.

    Args:
        w: (..., O, K), float32 or float64.
        gram: (..., K, K), E[x xᵀ] of the inputs of the layer, symmetric and positive semidefinite.
        scale, zero_point: broadcastable to w.
        damping: share of the mean diagonal that is added to the diagonal.

    Returns:
        (..., O, K), float32, integral, within qmin..qmax.

    Raises:
        InputError: shapes do not match, or a value is not finite.
    """
    w = np.array(w, np.float32)
    inputs = w.shape[-1]
    if gram.shape != (*w.shape[:-2], inputs, inputs):
        wanted = (*w.shape[:-2], inputs, inputs)
        raise InputError(f"a weight of shape {w.shape} takes a Gram matrix of {wanted}, not {gram.shape}")
    if not (np.isfinite(w).all() and np.isfinite(gram).all()):
        raise InputError("GPTQ takes finite weights and a finite Gram matrix; check the samples for NaN and infinity")
    scale = np.broadcast_to(np.asarray(scale, np.float32), w.shape)
    zero = np.broadcast_to(np.asarray(zero_point, np.float32), w.shape)
    diagonal = np.einsum("...ii->...i", gram)
    order = np.argsort(-diagonal, axis=-1, kind="stable")
    columns = order[..., None, :]
    w, scale, zero = (np.take_along_axis(a, columns, -1) for a in (w, scale, zero))
    factor = _factor(gram, order, diagonal, damping)
    q = np.empty_like(w)
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        errors = np.empty((*w.shape[:-1], stop - start), np.float32)
        for i in range(start, stop):
            column, step, middle = w[..., i], scale[..., i], zero[..., i]
            q[..., i] = np.clip(np.rint(column / step) + middle, qmin, qmax)
            error = (column - (q[..., i] - middle) * step) / factor[..., i, i][..., None]
            errors[..., i - start] = error
            w[..., i + 1 : stop] -= error[..., None] * factor[..., None, i, i + 1 : stop]
        w[..., stop:] -= errors @ factor[..., start:stop, stop:]
    restored = np.empty_like(q)
    np.put_along_axis(restored, np.broadcast_to(columns, q.shape), q, -1)
    return restored


def _factor(
    gram: NDArray[np.floating], order: NDArray[np.integer], diagonal: NDArray[np.floating], damping: float
) -> NDArray[np.float32]:
    """The upper Cholesky factor U of the inverse, gram⁻¹ = Uᵀ U, with rows and columns in the given order."""
    h = np.take_along_axis(
        np.take_along_axis(gram.astype(np.float64), order[..., :, None], -2), order[..., None, :], -1
    )
    mean = diagonal.mean(-1, dtype=np.float64)[..., None]
    extra = np.where(mean > 0.0, damping * mean, 1.0)
    index = np.arange(h.shape[-1])
    h[..., index, index] += extra
    # The inverse's upper factor is the lower factor of the reversed matrix, inverted and reversed: one factorization.
    lower = np.linalg.cholesky(h[..., ::-1, ::-1])
    if h.ndim == 2:
        inverse, _ = dtrtri(lower, lower=1)
    else:
        inverse = np.linalg.solve(lower, np.broadcast_to(np.eye(h.shape[-1]), h.shape))
    return np.ascontiguousarray(inverse[..., ::-1, ::-1]).astype(np.float32)
