"""Affine quantization of 2 to 16 bits with any block shape.

real = (q - zero_point) · scale and q = clip(round(real / scale) + zero_point, qmin, qmax), as ONNX QuantizeLinear and
DequantizeLinear define it (operator specification, opset 25), computed in float32 so that integers agree bit for bit
with a runtime that does the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbit.errors import InputError
from fewbit.spec import QParams, QSpec, Rounding

# The smallest normal float32. A scale below it would be flushed to zero by runtimes that flush denormals.
MIN_SCALE = float(np.finfo(np.float32).tiny)


def block_grid(shape: tuple[int, ...], block_shape: tuple[int, ...]) -> tuple[int, ...]:
    """How many blocks there are along each axis: () for one block that spans everything.

    A last block may be shorter. Raises InputError where block and tensor differ in rank.
    """
    if all(size == -1 for size in block_shape):
        return ()
    if len(block_shape) != len(shape):
        raise InputError(f"block shape {block_shape} has {len(block_shape)} axes, the tensor {shape} has {len(shape)}")
    if any(size == 0 or size < -1 for size in block_shape):
        raise InputError(f"block shape {block_shape} must hold positive sizes, or -1 for a whole axis")
    return tuple(1 if b == -1 else math.ceil(n / b) for n, b in zip(shape, block_shape, strict=True))


def expand_blocks(values: NDArray[Any], shape: tuple[int, ...], block_shape: tuple[int, ...]) -> NDArray[Any]:
    """Values of shape `block_grid(shape, block_shape)` so that they broadcast against a tensor of `shape`.

    A view where every block is one element or a whole axis; otherwise the values are repeated.
    """
    if values.ndim == 0 or not block_shape:
        return values
    for axis, (size, block) in enumerate(zip(shape, block_shape, strict=True)):
        if block not in (-1, 1) and values.shape[axis] > 1:
            values = np.repeat(values, block, axis)
            values = values[(slice(None),) * axis + (slice(size),)]
    return values


def params_from_range(low: ArrayLike, high: ArrayLike, spec: QSpec) -> QParams:
    """Scale and zero point so that the integers span [low, high], widened to include zero.

    Symmetric: the larger of |low| and |high| becomes the largest integer, and the zero point is 0 (int) or the middle
    (uint). Asymmetric: scale = (high - low) / (qmax - qmin), and the zero point is qmin - low / scale, ties to even.
    A block that is all zero gets scale 1, and no scale is smaller than the smallest normal float32.

    Args:
        low, high: bounds, one a block, any float dtype; must be finite.
    """
    lo = np.minimum(np.asarray(low, np.float64), 0.0)
    hi = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise InputError("a quantization range must be finite: clip the values or leave the tensor in float")
    qmin, qmax = spec.qmin, spec.qmax
    if spec.symmetric:
        middle = 0 if spec.dtype.kind == "int" else 1 << (spec.dtype.bits - 1)
        scale = np.maximum(hi / (qmax - middle), lo / (qmin - middle) if qmin != middle else 0.0)
        zero = np.full(scale.shape, middle, np.int32)
    else:
        scale = (hi - lo) / (qmax - qmin)
        zero = np.zeros(scale.shape, np.int32)
    scale = np.where(scale == 0.0, 1.0, np.maximum(scale, MIN_SCALE)).astype(np.float32)
    if not spec.symmetric:
        zero = np.clip(np.rint(qmin - lo / scale), qmin, qmax).astype(np.int32)
    return QParams(spec, np.asarray(scale), np.asarray(zero))


def quantize(x: NDArray[Any], params: QParams) -> NDArray[Any]:
    """Integers of `params.spec.dtype.storage`, in the shape of x (any float dtype; computed in float32)."""
    spec = params.spec
    scale = expand_blocks(params.scale, x.shape, spec.block_shape)
    q = np.divide(x, scale, dtype=np.float32) if x.dtype == np.float32 else x.astype(np.float32) / scale
    q = np.asarray(q)
    _round(q, spec.rounding)
    if params.zero_point.any():
        q += expand_blocks(params.zero_point, x.shape, spec.block_shape).astype(np.float32)
    np.clip(q, spec.qmin, spec.qmax, out=q)
    return q.astype(spec.dtype.storage)


def dequantize(q: NDArray[Any], params: QParams) -> NDArray[np.float32]:
    """float32 values of integers, in the shape of q."""
    real = q.astype(np.float32)
    if params.zero_point.any():
        real -= expand_blocks(params.zero_point, q.shape, params.spec.block_shape).astype(np.float32)
    real *= expand_blocks(params.scale, q.shape, params.spec.block_shape)
    return real


def fake_quantize(x: NDArray[Any], params: QParams) -> NDArray[np.float32]:
    """The float32 values that x becomes by quantization."""
    return dequantize(quantize(x, params), params)


def _round(q: NDArray[np.float32], rounding: Rounding) -> None:
    if rounding == "half_even":
        np.rint(q, out=q)
    elif rounding == "floor":
        np.floor(q, out=q)
    else:
        # trunc(x + copysign(0.5, x)) would round 0.49999997 up: compare the fraction instead.
        whole = np.trunc(q)
        whole += np.where(np.abs(q - whole) >= 0.5, np.sign(q), 0.0)
        q[...] = whole
