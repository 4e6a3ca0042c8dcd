"""Weights of less than 8 bits, or of a codebook, as bytes and a table that holds what every byte stands for.

    bytes (uint8) → Cast → Gather from (256, indices in a byte) → Reshape → Mul by the scale of each block

ONNX has types of 4 and 2 bits too, but only from opset 21 and 25 on; these nodes are as old as opset 13, so that a model
keeps its own opset. The bytes are the same. ONNX Runtime folds all of it when it loads the model (docs/adr/0008).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.floats import is_exact_float16
from fewbit.core.packing import pack
from fewbit.formats.onnx.emit import Emitter
from fewbit.spec import DType, QParams, QSpec

_OPSET_FLOAT8 = 19  # Cast takes 8-bit floats from here on
_WIDTHS = {2: 2, 3: 4, 4: 4}  # bits that an index takes; 8 for all others
_PLANES_FROM = 4096  # weights of 3 bits are cut into 2 and 1 from here on: the nodes for it take about 300 bytes


def needs_table(spec: QSpec, opset: int) -> bool:
    """Whether a stored weight is expanded by a table; the others by a Cast."""
    if spec.dtype.is_float8:
        return opset < _OPSET_FLOAT8
    return spec.codebook is not None or (spec.dtype.is_integer and spec.dtype.bits < 8)


def decoded(emit: Emitter, codes: NDArray[Any], params: QParams, hint: str) -> ir.Value:
    """The levels of a weight, float32, before they are multiplied by their scales; less the zero point if it is one for
    all (`block_zero_point` gives the others).

    Args:
        codes: what `fewbit.core.quant.quantize` gave.
    """
    indices, table = _indexed(codes, params)
    return _look_up(emit, indices, table, params.spec.dtype.bits, hint)


def packed_integers(emit: Emitter, codes: NDArray[np.integer], dtype: DType, hint: str) -> ir.Value:
    """Integers of less than 8 bits as int8, for integer kernels: packed in the file, folded when it is loaded."""
    levels = np.arange(dtype.qmin, dtype.qmax + 1).astype(np.int8)
    return _look_up(emit, (codes.astype(np.int16) - dtype.qmin).astype(np.uint8), levels, dtype.bits, hint)


def _look_up(emit: Emitter, indices: NDArray[np.uint8], table: NDArray[Any], width: int, hint: str) -> ir.Value:
    """table[indices], with the indices packed in `width` bits each, or in the next wider that divides a byte."""
    if width != 3 or indices.size < _PLANES_FROM:
        return _unpacked(emit, indices, table, _WIDTHS.get(width, 8), hint)
    low = _unpacked(emit, indices & 3, np.arange(4, dtype=np.int32), 2, hint)
    high = _unpacked(emit, indices >> 2, np.array([0, 4], np.int32), 1, hint)
    (index,) = emit.node("Add", [low, high], "index", dtype=ir.DataType.INT32)
    return emit.gather(emit.constant(table, "levels"), index)


def _unpacked(emit: Emitter, indices: NDArray[np.uint8], table: NDArray[Any], bits: int, hint: str) -> ir.Value:
    data = emit.constant(
        np.packbits(indices.reshape(-1), bitorder="little") if bits == 1 else pack(indices, DType("uint", bits)), hint
    )
    value = emit.gather(emit.byte_rows(table, bits), emit.to_index(data))
    if indices.size % (8 // bits):
        value = _slice(emit, _reshape(emit, value, (-1,)), indices.size, 0)
    return _reshape(emit, value, indices.shape)


def block_scale(emit: Emitter, params: QParams, shape: tuple[int, ...]) -> ir.Value:
    """The scales of a weight so that they broadcast against it; as float16 where that loses nothing."""
    grid = _split_grid(params, shape)
    return _spread(emit, scale_constant(emit, params.scale.reshape(grid)), params, shape)


def block_zero_point(emit: Emitter, params: QParams, shape: tuple[int, ...]) -> ir.Value | None:
    """What is left to subtract from the levels of an affine weight before they are scaled, so that it broadcasts against
    them; None for nothing."""
    zero, dtype = params.zero_point, params.spec.dtype
    if params.table is not None or dtype.is_float8 or not zero.any():
        return None
    grid = _split_grid(params, shape)
    if dtype.bits >= 8:
        value = emit.to_float(emit.constant(zero.astype(dtype.storage).reshape(grid), "zp"))
    elif np.unique(zero).size == 1:
        return None  # the table of levels has it
    else:
        value = decoded(emit, zero.reshape(grid), replace(params, zero_point=np.zeros((), np.int32)), "zp")
    return _spread(emit, value, params, shape)


def scale_constant(emit: Emitter, scale: NDArray[np.float32]) -> ir.Value:
    """Scales as float32; stored as float16 where that loses nothing."""
    if scale.size > 1 and is_exact_float16(scale):
        return emit.to_float(emit.constant(scale.astype(np.float16), "scale"))
    return emit.constant(scale, "scale")


def _repeated(params: QParams) -> list[int]:
    """The axes along which a block has several elements, and there are several blocks."""
    if params.scale.ndim == 0:
        return []
    return [a for a, b in enumerate(params.spec.block_shape) if b not in (-1, 1) and params.scale.shape[a] > 1]


def _split_grid(params: QParams, shape: tuple[int, ...]) -> list[int]:
    """The grid of blocks with each repeated axis as two, (groups, 1): it is expanded to (groups, size of a group) and
    flattened again."""
    if params.scale.ndim == 0:
        return [1] * len(shape)
    repeated = _repeated(params)
    return [n for a, size in enumerate(params.scale.shape) for n in ((size, 1) if a in repeated else (size,))]


def _spread(emit: Emitter, value: ir.Value, params: QParams, shape: tuple[int, ...]) -> ir.Value:
    """A value a block, in the shape of `_split_grid`, so that it broadcasts against the weight."""
    repeated, block, grid = _repeated(params), params.spec.block_shape, params.scale.shape
    if not repeated:
        return value
    wide = [n for a, size in enumerate(grid) for n in ((size, block[a]) if a in repeated else (size,))]
    (value,) = emit.node(
        "Expand", [value, emit.constant(np.array(wide, np.int64), "shape")], "scale", dtype=value.dtype
    )
    flat = [size * block[a] if a in repeated else size for a, size in enumerate(grid)]
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
    levels = np.arange(dtype.qmin, dtype.qmax + 1) - (int(zero[0]) if zero.size == 1 else 0)
    return (codes.astype(np.int16) - dtype.qmin).astype(np.uint8), levels.astype(np.float32)


def _reshape(emit: Emitter, value: ir.Value, shape: tuple[int, ...] | list[int]) -> ir.Value:
    target = emit.constant(np.array(shape, np.int64), "shape")
    return emit.node("Reshape", [value, target], "w", dtype=value.dtype)[0]


def _slice(emit: Emitter, value: ir.Value, size: int, axis: int) -> ir.Value:
    """The first `size` along an axis."""
    bounds: list[ir.Value | None] = [emit.constant(np.array([n], np.int64), "bound") for n in (0, size, axis)]
    return emit.node("Slice", [value, *bounds], "w", dtype=value.dtype)[0]
