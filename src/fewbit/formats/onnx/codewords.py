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


def expanded(emit: Emitter, codes: NDArray[Any], params: QParams, hint: str) -> ir.Value:
    """The float32 weight that codes stand for, by nodes that the runtime folds when it loads the model.

    Every result of such a node stays in its memory, so there are as few as can be of the size of the weight: the levels are
    scaled in the shape that the table gives them, with an axis of groups cut in two, (groups, size of a group).

    Args:
        codes: what `fewbit.core.quant.quantize` gave.
    """
    whole, split, grid = _shapes(codes.shape, params)
    missing = [n - size for n, size in zip(whole, codes.shape, strict=True)]
    if not any(missing):
        codes = codes.reshape(split)
    if needs_table(params.spec, emit.hub.opset):
        indices, table = _indexed(codes, params)
        value, shape = _look_up(emit, indices, table, params.spec.dtype.bits, hint)
    else:
        value, shape = emit.to_float(emit.constant(codes, hint)), codes.shape
    if any(missing):  # a last group is shorter
        ends = emit.constant(np.array([0] * len(missing) + missing, np.int64), "shape")
        (value,) = emit.node("Pad", [_shaped(emit, value, shape, codes.shape), ends], "w", dtype=value.dtype)
        value, shape = _reshape(emit, value, split), split
    if len(shape) > len(split):  # the last axis was cut into bytes
        grid = (*grid[:-1], *((1, 1) if grid[-1] == 1 else shape[-2:]))
    zero = _zero_point(emit, params, grid)
    if zero is not None:
        (value,) = emit.node("Sub", [value, zero], "w", dtype=ir.DataType.FLOAT)
    scale = scale_constant(emit, params.scale.reshape(grid))
    (value,) = emit.node("Mul", [value, scale], "w", dtype=ir.DataType.FLOAT)
    value = _shaped(emit, value, shape, whole)
    for axis, short in enumerate(missing):
        if short:
            value = _slice(emit, value, whole[axis] - short, axis)
    return value


def packed_integers(emit: Emitter, codes: NDArray[np.integer], dtype: DType, hint: str) -> ir.Value:
    """Integers of less than 8 bits as int8, for integer kernels: packed in the file, folded when it is loaded."""
    levels = np.arange(dtype.qmin, dtype.qmax + 1).astype(np.int8)
    indices = (codes.astype(np.int16) - dtype.qmin).astype(np.uint8)
    value, shape = _look_up(emit, indices, levels, dtype.bits, hint)
    return _shaped(emit, value, shape, codes.shape)


def _look_up(
    emit: Emitter, indices: NDArray[np.uint8], table: NDArray[Any], width: int, hint: str
) -> tuple[ir.Value, tuple[int, ...]]:
    """table[indices], with the indices packed in `width` bits each, or in the next wider that divides a byte; and its shape,
    which is that of the indices or has the last axis cut into bytes."""
    if width != 3 or indices.size < _PLANES_FROM:
        return _unpacked(emit, indices, table, _WIDTHS.get(width, 8), hint)
    low = _unpacked(emit, (indices & 3).astype(np.uint8), np.arange(4, dtype=np.int32), 2, hint)
    high = _unpacked(emit, (indices >> 2).astype(np.uint8), np.array([0, 4], np.int32), 1, hint)
    parts: list[ir.Value | None] = [_shaped(emit, value, shape, indices.shape) for value, shape in (low, high)]
    (index,) = emit.node("Add", parts, "index", dtype=ir.DataType.INT32)
    return emit.gather(emit.constant(table, "levels"), index), indices.shape


def _unpacked(
    emit: Emitter, indices: NDArray[np.uint8], table: NDArray[Any], bits: int, hint: str
) -> tuple[ir.Value, tuple[int, ...]]:
    count = 8 // bits
    data = np.packbits(indices.reshape(-1), bitorder="little") if bits == 1 else pack(indices, DType("uint", bits))
    cut = indices.ndim > 0 and indices.shape[-1] % count == 0
    rows = emit.byte_rows(table, bits)
    if cut:
        data = data.reshape(*indices.shape[:-1], -1)
    value = emit.gather(rows, emit.to_index(emit.constant(data, hint)))
    if cut:
        return value, (*data.shape, count)
    value = _reshape(emit, value, (-1,))
    if indices.size % count:
        value = _slice(emit, value, indices.size, 0)
    return _reshape(emit, value, indices.shape), indices.shape


def _zero_point(emit: Emitter, params: QParams, grid: tuple[int, ...]) -> ir.Value | None:
    """What is left to subtract from the levels of an affine weight before they are scaled; None for nothing."""
    zero, dtype = params.zero_point, params.spec.dtype
    if params.table is not None or dtype.is_float8 or not zero.any():
        return None
    if not needs_table(params.spec, emit.hub.opset):
        return emit.to_float(emit.constant(zero.astype(dtype.storage).reshape(grid), "zp"))
    if np.unique(zero).size == 1:
        return None  # the table of levels has it
    indices, table = _indexed(zero, replace(params, zero_point=np.zeros((), np.int32)))
    value, shape = _look_up(emit, indices, table, dtype.bits, "zp")
    return _shaped(emit, value, shape, grid)


def scale_constant(emit: Emitter, scale: NDArray[np.float32]) -> ir.Value:
    """Scales as float32; stored as float16 where that loses nothing."""
    if scale.size > 1 and is_exact_float16(scale):
        return emit.to_float(emit.constant(scale.astype(np.float16), "scale"))
    return emit.constant(scale, "scale")


def _shapes(shape: tuple[int, ...], params: QParams) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Of a weight in whole groups: its shape; the same with every axis of groups as two, (groups, size of a group); and that
    of its scales, which broadcasts against the second."""
    scale = params.scale.shape or (1,) * len(shape)
    block = params.spec.block_shape or (-1,) * len(shape)
    whole, split, grid = [], [], []
    for size, groups, width in zip(shape, scale, block, strict=True):
        grouped = groups > 1 and width not in (-1, 1)
        whole.append(groups * width if grouped else size)
        split += [groups, width] if grouped else [size]
        grid += [groups, 1] if grouped else [groups]
    return tuple(whole), tuple(split), tuple(grid)


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


def _shaped(emit: Emitter, value: ir.Value, shape: tuple[int, ...], wanted: tuple[int, ...]) -> ir.Value:
    return value if shape == wanted else _reshape(emit, value, wanted)


def _slice(emit: Emitter, value: ir.Value, size: int, axis: int) -> ir.Value:
    """The first `size` along an axis."""
    bounds: list[ir.Value | None] = [emit.constant(np.array([n], np.int64), "bound") for n in (0, size, axis)]
    return emit.node("Slice", [value, *bounds], "w", dtype=value.dtype)[0]
