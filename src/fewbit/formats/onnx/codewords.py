"""Weights of less than 8 bits, or of a codebook, as bytes and a table that holds what every byte stands for.

    bytes (uint8) → Cast → Gather from (256, indices in a byte) → Reshape → Mul by the scale of each block

ONNX has types of 4 and 2 bits too, but only from opset 21 and 25 on; these nodes are as old as opset 13, so that a model
keeps its own opset. The bytes are the same. ONNX Runtime folds all of it when it loads the model (docs/adr/0008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.floats import is_exact_float16
from fewbit.core.packing import pack
from fewbit.errors import PlanError
from fewbit.formats.onnx.emit import Emitter
from fewbit.spec import DType, QParams, QSpec

_OPSET_FLOAT8 = 19  # Cast takes 8-bit floats from here on
_WIDTHS = {2: 2, 3: 4, 4: 4}  # bits that an index takes; 8 for all others


def needs_table(spec: QSpec, opset: int) -> bool:
    """Whether a stored weight is expanded by a table; the others by a Cast."""
    if spec.dtype.is_float8:
        return opset < _OPSET_FLOAT8
    return spec.codebook is not None or (spec.dtype.is_integer and spec.dtype.bits < 8)


def decoded(emit: Emitter, codes: NDArray[Any], params: QParams, hint: str) -> ir.Value:
    """The levels of a weight, float32, before they are multiplied by their scales.

    Args:
        codes: what `fewbit.core.quant.quantize` gave.
    """
    indices, table = _indexed(codes, params)
    bits = _WIDTHS.get(params.spec.dtype.bits, 8)
    data = emit.constant(pack(indices, DType("uint", bits)), hint)
    value = emit.gather(emit.byte_rows(table, bits), emit.to_index(data))
    if codes.size % (8 // bits):
        value = _slice(emit, _reshape(emit, value, (-1,)), codes.size, 0)
    return _reshape(emit, value, codes.shape)


def block_scale(emit: Emitter, params: QParams, shape: tuple[int, ...]) -> ir.Value:
    """The scales of a weight so that they broadcast against it; as float16 where that loses nothing."""
    scale, block = params.scale, params.spec.block_shape
    if scale.ndim == 0:
        return emit.constant(scale.reshape((1,) * len(shape)), "scale")
    repeated = [a for a, b in enumerate(block) if b not in (-1, 1) and scale.shape[a] > 1]
    # A repeated axis becomes two: (groups, 1), which is expanded to (groups, size of a group) and flattened again.
    split = [n for a in range(scale.ndim) for n in ((scale.shape[a], 1) if a in repeated else (scale.shape[a],))]
    half = scale.size > 1 and is_exact_float16(scale)
    value = emit.constant((scale.astype(np.float16) if half else scale).reshape(split), "scale")
    if half:
        value = emit.to_float(value)
    if not repeated:
        return value
    wide = [n for a in range(scale.ndim) for n in ((scale.shape[a], block[a]) if a in repeated else (scale.shape[a],))]
    (value,) = emit.node(
        "Expand", [value, emit.constant(np.array(wide, np.int64), "shape")], "scale", dtype=value.dtype
    )
    flat = [n * block[a] if a in repeated else n for a, n in enumerate(scale.shape)]
    value = _reshape(emit, value, flat)
    for axis in repeated:
        if flat[axis] > shape[axis]:  # the last group is shorter
            value = _slice(emit, value, shape[axis], axis)
    return value


def _indexed(codes: NDArray[Any], params: QParams) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes as indices into a table of what they stand for."""
    dtype = params.spec.dtype
    if params.table is not None:
        return codes, params.table
    if dtype.is_float8:
        every = np.arange(256, dtype=np.uint8).view(dtype.storage).astype(np.float32)
        return codes.view(np.uint8), np.where(np.isfinite(every), every, np.float32(0))  # no code of a weight is NaN
    zero = np.unique(params.zero_point)
    if zero.size > 1:
        raise PlanError(
            f"weights of {dtype} in storage form share one zero point, given {zero.size}; set symmetric: true in the recipe"
        )
    levels = np.arange(dtype.qmin, dtype.qmax + 1) - int(zero[0])
    return (codes.astype(np.int16) - dtype.qmin).astype(np.uint8), levels.astype(np.float32)


def _reshape(emit: Emitter, value: ir.Value, shape: tuple[int, ...] | list[int]) -> ir.Value:
    target = emit.constant(np.array(shape, np.int64), "shape")
    return emit.node("Reshape", [value, target], "w", dtype=ir.DataType.FLOAT)[0]


def _slice(emit: Emitter, value: ir.Value, size: int, axis: int) -> ir.Value:
    """The first `size` along an axis."""
    bounds: list[ir.Value | None] = [emit.constant(np.array([n], np.int64), "bound") for n in (0, size, axis)]
    return emit.node("Slice", [value, *bounds], "w", dtype=ir.DataType.FLOAT)[0]
