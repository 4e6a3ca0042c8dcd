"""Coordinate descent over integers on a layer's expected squared output error, and that error itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbit.core.affine import block_grid, expand_blocks
from fewbit.errors import InputError
from fewbit.spec import QParams

# Columns whose steps reach the rest of the gradient in one matrix product. From 32 to 256 the time is flat; one by one
# it is 14 times as long, as each column then costs a pass over the whole gradient.
_BLOCK = 64

# In steps of the integer: a move that gains less than this is noise of the scale or of the work, and could swing for
# ever.
_MARGIN: dict[type, float] = {np.float64: 1e-6, np.float32: 1e-3}


def output_error(error: NDArray[np.floating], gram: NDArray[np.floating]) -> NDArray[np.float64]:
    """E[(e_o x)²] = e_o gram e_oᵀ of every output channel (Nagel et al. 2020, "Up or Down? Adaptive Rounding for
    Post-Training Quantization", equation 20).

    Args:
        error: w_quantized - w, shape (O, I).
        gram: E[x xᵀ] over the layer's input vectors, shape (I, I).

    Returns:
        shape (O,), float64.
    """
    error = error.astype(np.float64)
    return np.einsum("oi,oi->o", error @ gram.astype(np.float64, copy=False), error)


def coordinate_descent(
    w: NDArray[np.float32],
    integers: NDArray[Any],
    params: QParams,
    gram: NDArray[np.floating],
    *,
    sweeps: int = 20,
) -> NDArray[Any]:
    """Integers of a lower expected squared output error Σ_o e_o gram e_oᵀ.

    One column after the other moves to its exact optimum given all others, q_i - (e gram)_i / (gram_ii · scale_i),
    rounded and clipped; all output channels at once. The error never rises. A pass that moves nothing is the last: no
    change of a single integer lowers the error then, which takes 10 to 30 passes. (Behdin et al. 2023, "QuantEase:
    Optimization-based Quantization for Language Models", lemma 1; Nair & Suggala 2024, "CDQuant", cyclic variant.)

    Args:
        w: float32, shape (O, I).
        integers: where to start, shape (O, I), any integer dtype, within the range of `params.spec`.
        params: scale and zero point of every block of w; they stay.
        gram: E[x xᵀ] over the layer's input vectors, shape (I, I). Columns of an input that is always zero stay.
        sweeps: at most so many passes over the columns.

    Returns:
        integers of `params.spec.dtype.storage`, shape (O, I).

    Raises:
        InputError: shapes that do not fit, values that are not finite, integers out of range.
    """
    gram = checked_gram(w, gram)
    check_params(w, params)
    spec = params.spec
    if integers.shape != w.shape:
        raise InputError(f"integers must have the shape of the weight {w.shape}, not {integers.shape}")
    if integers.size and not (spec.qmin <= integers.min() and integers.max() <= spec.qmax):
        found = f"{integers.min()}..{integers.max()}"
        raise InputError(f"integers must lie within {spec.qmin}..{spec.qmax}, not {found}; clip them first")
    scale, zero = (expand_blocks(x, w.shape, spec.block_shape) for x in (params.scale, params.zero_point))
    q = descend(w, integers, gram, scale, zero, spec.qmin, spec.qmax, sweeps=sweeps)
    return q.astype(spec.dtype.storage)


def descend(
    w: NDArray[np.floating],
    integers: NDArray[Any],
    gram: NDArray[np.floating],
    scale: NDArray[np.floating],
    zero_point: NDArray[Any],
    low: ArrayLike,
    high: ArrayLike,
    *,
    sweeps: int,
) -> NDArray[np.floating]:
    """`coordinate_descent` for arrays that are known to fit, with any number of independent layers along leading axes.

    Args:
        w, integers: (..., O, K). gram: (..., K, K); its dtype is that of the work, float32 or float64.
        scale, zero_point, low, high: broadcastable to w; the integers are within low and high, and stay there.

    Returns:
        (..., O, K), integral, in the dtype of gram.
    """
    shape, dtype = w.shape, gram.dtype

    def columns(a: ArrayLike) -> NDArray[np.floating]:
        """(layers, K, O), so that a column is contiguous."""
        whole = np.broadcast_to(np.asarray(a, dtype), shape).reshape(-1, *shape[-2:])
        return whole.transpose(0, 2, 1)

    gram = gram.reshape(-1, *gram.shape[-2:])
    q, scale = (np.array(columns(a), order="C") for a in (integers, scale))
    least, most = columns(low), columns(high)
    slope = gram @ ((q - columns(zero_point)) * scale - columns(w))
    diagonal = np.einsum("gii->gi", gram)[..., None]
    dead = diagonal <= 0.0  # an input that is always zero moves nothing
    pull = np.where(dead, 0.0, -1 / (np.where(dead, 1.0, diagonal) * scale)) * (1 - 2 * _MARGIN[dtype.type])
    pull = pull.astype(dtype)
    moves = np.empty((len(q), _BLOCK, shape[-2]), dtype)
    for _ in range(sweeps):
        moved = False
        for start in range(0, shape[-1], _BLOCK):
            stop = min(start + _BLOCK, shape[-1])
            for i in range(start, stop):
                best = slope[:, i] + (gram[:, None, i, start:i] @ moves[:, : i - start])[:, 0]
                best *= pull[:, i]
                np.rint(best, out=best)
                best += q[:, i]
                np.minimum(np.maximum(best, least[:, i], out=best), most[:, i], out=best)
                np.multiply(best - q[:, i], scale[:, i], out=moves[:, i - start])
                q[:, i] = best
            done = moves[:, : stop - start]
            if done.any():
                slope += gram[:, :, start:stop] @ done
                moved = True
        if not moved:
            break
    return np.ascontiguousarray(q.transpose(0, 2, 1)).reshape(shape)


def damped(gram: NDArray[np.floating], damping: float) -> NDArray[np.float64]:
    """Gram matrices (..., K, K) with that share of the mean diagonal added to it, 1 where all inputs are zero."""
    h = gram.astype(np.float64)
    index = np.arange(h.shape[-1])
    mean = h[..., index, index].mean(-1)[..., None]
    h[..., index, index] += np.where(mean > 0.0, damping * mean, 1.0)
    return h


def checked_gram(w: NDArray[np.float32], gram: NDArray[np.floating]) -> NDArray[np.float64]:
    """The Gram matrix in float64.

    Raises:
        InputError: w is not a finite matrix (O, I), or gram is not a finite symmetric matrix (I, I) with a diagonal ≥ 0.
    """
    if w.ndim != 2:
        raise InputError(f"a weight must be a matrix (O, I), not of shape {w.shape}; reshape a kernel to (O, I·kh·kw)")
    inputs = w.shape[1]
    if gram.shape != (inputs, inputs):
        raise InputError(f"the Gram matrix of a weight {w.shape} must be {(inputs, inputs)}, not {gram.shape}")
    if not np.isfinite(w).all():
        raise InputError("a weight with NaN or infinity cannot be quantized; leave it in float")
    if not np.isfinite(gram).all():
        raise InputError("a Gram matrix must be finite; leave out the samples that give NaN or infinity")
    table: NDArray[np.float64] = gram.astype(np.float64)
    least, top = table.diagonal().min(initial=0.0), table.diagonal().max(initial=0.0)
    if least < 0.0:
        raise InputError(f"a Gram matrix has mean squares on its diagonal, not {least:g}; give E[x xᵀ]")
    skew = np.abs(table - table.T).max(initial=0.0)
    if skew > 1e-4 * top:  # sums in float32 over many samples stay well below
        raise InputError(f"a Gram matrix must be symmetric, its halves differ by {skew:g}; fill both of E[x xᵀ]")
    return table


def check_params(w: NDArray[np.float32], params: QParams) -> None:
    """Raises InputError where the parameters are not those of a weight of this shape."""
    grid = block_grid(w.shape, params.spec.block_shape)
    if params.scale.shape != grid or params.zero_point.shape != grid:
        found = f"{params.scale.shape} and {params.zero_point.shape}"
        raise InputError(f"scale and zero point of a weight {w.shape} must have the shape {grid}, not {found}")
