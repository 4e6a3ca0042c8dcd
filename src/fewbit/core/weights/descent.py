"""Coordinate descent over integers on a layer's expected squared output error, and that error itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import block_grid, dequantize, expand_blocks
from fewbit.errors import InputError
from fewbit.spec import QParams

# Columns whose steps reach the rest of the gradient in one matrix product. From 32 to 256 the time is flat; one by one
# it is 14 times as long, as each column then costs a pass over the whole gradient.
_BLOCK = 64

# In steps of the integer: a move that gains less than this is float32 noise of the scale, and could swing for ever.
_MARGIN = 1e-6


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
    q = np.ascontiguousarray(integers.T, np.float64)  # transposed: a column of w is then contiguous
    scale = np.broadcast_to(expand_blocks(params.scale, w.shape, spec.block_shape), w.shape).T.astype(np.float64)
    slope = gram @ (dequantize(integers, params).astype(np.float64) - w).T
    diagonal = gram.diagonal()
    moves = np.empty((_BLOCK, len(w)))
    for _ in range(sweeps):
        moved = False
        for start in range(0, len(q), _BLOCK):
            block = range(start, min(start + _BLOCK, len(q)))
            moves[:] = 0.0
            for done, i in enumerate(block):
                if diagonal[i] == 0.0:
                    continue
                shift = (slope[i] + gram[i, start:i] @ moves[:done]) / (-diagonal[i] * scale[i])
                best = np.clip(np.rint(q[i] + shift), spec.qmin, spec.qmax)
                best = np.where(np.abs(shift) > 0.5 + _MARGIN, best, q[i])
                moves[done] = (best - q[i]) * scale[i]
                q[i] = best
            if moves.any():
                slope += gram[:, block.start : block.stop] @ moves[: len(block)]
                moved = True
        if not moved:
            break
    return np.ascontiguousarray(q.T.astype(spec.dtype.storage))


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
