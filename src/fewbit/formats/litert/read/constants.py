"""The numbers of constant tensors: packed ones unpacked, sparse ones made dense, their bytes compared with their shape."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import ModelError
from fewbit.formats.litert.read.file import LiteRTFile, Tensor
from fewbit.formats.litert.read.flat import Table

_DENSE = 0
_INDEX_DTYPES = {1: "<i4", 2: "<u2", 3: "<u1"}
_MOST_GROWTH = 64
"""A sparse tensor may be this many times larger than its file, or `_SMALL` numbers: sparse weights are 2 to 20 times."""
_SMALL = 1 << 20

_PACKED = {
    ir.DataType.INT4: (4, True, ml_dtypes.int4),
    ir.DataType.UINT4: (4, False, ml_dtypes.uint4),
    ir.DataType.INT2: (2, True, np.int8),
}
"""Several numbers a byte: bits, whether they have a sign, and the dtype of the array. ONNX Runtime has no 2-bit numbers."""


def is_constant(file: LiteRTFile, tensor: Tensor) -> bool:
    """Whether the file has numbers for a tensor. Buffer 0 is the empty one, and so are those of activations."""
    if tensor.buffer == 0:
        return False
    if not tensor.buffer < len(file.buffers):
        raise file.flat.damaged(
            f"it has {len(file.buffers)} buffers, and tensor {tensor.name!r} is in number {tensor.buffer}"
        )
    return file.buffers[tensor.buffer][1] > 0


def constant(file: LiteRTFile, tensor: Tensor) -> NDArray[np.generic]:
    """The stored numbers of a constant tensor, in its shape; 4-bit ones as ml_dtypes', 2-bit ones as int8.

    Raises:
        ModelError: its bytes do not fit its shape, or its dtype has no numbers.
    """
    if tensor.dtype is None or tensor.dtype == ir.DataType.STRING:
        raise ModelError(
            f"{file.label}: tensor {tensor.name!r} holds strings or resources, which have no counterpart here"
        )
    sizes = tensor.sizes or ()
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) < len(sizes):
        raise file.flat.damaged(f"the constant {tensor.name!r} has the shape {sizes}")
    data = file.bytes_of(tensor.buffer)
    if tensor.sparsity is not None:
        return _dense(file, tensor, tensor.sparsity, shape, data)
    return _array(file, tensor, data, math.prod(shape)).reshape(shape)


def _array(file: LiteRTFile, tensor: Tensor, data: memoryview, count: int) -> NDArray[np.generic]:
    dtype = tensor.dtype or ir.DataType.UNDEFINED
    wanted = -(-count * dtype.bitwidth // 8)
    if len(data) != wanted:
        raise file.flat.damaged(
            f"tensor {tensor.name!r} of shape {tensor.sizes} and type {dtype.name} needs {wanted} bytes and has {len(data)}"
        )
    if dtype not in _PACKED:
        return np.frombuffer(data, dtype.numpy().newbyteorder("<") if dtype.numpy().kind in "iufc" else dtype.numpy())
    bits, signed, kind = _PACKED[dtype]
    raw = np.frombuffer(data, np.uint8)
    parts = np.stack([raw >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)], axis=-1).reshape(-1)[:count]
    numbers = parts.astype(np.int8)
    if signed:
        numbers = np.where(numbers >= 1 << bits - 1, numbers - (1 << bits), numbers).astype(np.int8)
    return numbers.astype(kind)


def _dense(
    file: LiteRTFile, tensor: Tensor, sparsity: Table, shape: tuple[int, ...], data: memoryview
) -> NDArray[np.generic]:
    """Blocks of a tensor that are stored alone, put where they belong; the rest is 0.

    The axes of the tensor, and after them those within blocks, are traversed in an order of the file's. At each level,
    either all places are there or those that a list of the segment names.
    """
    name = tensor.name
    order, blocks = (sparsity.array(slot, "<i4") for slot in (0, 1))
    blocked = [] if blocks is None else blocks.tolist()
    levels = sparsity.tables(2, f"a dimension of {name!r}")
    count = len(shape) + len(blocked)
    if (
        order is None
        or sorted(order.tolist()) != list(range(count))
        or len(levels) != count
        or len(set(blocked)) < len(blocked)
    ):
        raise file.flat.damaged(f"the sparsity of tensor {name!r} does not fit its {len(shape)} axes")
    if any(not 0 <= axis < len(shape) for axis in blocked):
        raise file.flat.damaged(f"the sparsity of tensor {name!r} has blocks along axes {blocked} of {len(shape)}")
    total = math.prod(shape)
    if total > max(_SMALL, _MOST_GROWTH * len(file.flat)):
        raise ModelError(
            f"{file.label}: the sparse tensor {name!r} would be {total} numbers, {_MOST_GROWTH} times the file or more"
        )
    block = {axis: levels[order.tolist().index(len(shape) + i)].number(1, "i") for i, axis in enumerate(blocked)}
    if any(size <= 0 or shape[axis] % size for axis, size in block.items()):
        raise file.flat.damaged(f"the sparsity of tensor {name!r} has blocks {block} that do not divide {shape}")
    extents = [size // block.get(axis, 1) for axis, size in enumerate(shape)] + [block[axis] for axis in blocked]
    count = 1
    found: dict[int, NDArray[np.int64]] = {}
    for axis, level in zip(order.tolist(), levels, strict=True):
        parents, along = _level(file, name, level, count, extents[axis], total)
        found = {done: places[parents] for done, places in found.items()}
        found[axis], count = along, along.size
    index = [
        found[axis] * block[axis] + found[len(shape) + blocked.index(axis)] if axis in block else found[axis]
        for axis in range(len(shape))
    ]
    values = _array(file, tensor, data, count)
    dense = np.zeros(shape, values.dtype)
    dense[tuple(index)] = values
    return dense


def _level(
    file: LiteRTFile, name: str, level: Table, count: int, extent: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every part below `count` parents: the number of its parent, and its place along an axis of `extent`."""
    if level.number(0, "b") == _DENSE:
        if level.number(1, "i") != extent or extent * count > most:
            raise file.flat.damaged(
                f"the sparsity of tensor {name!r} gives an axis of {extent} the size {level.number(1, 'i')}"
            )
        return np.repeat(np.arange(count), extent), np.tile(np.arange(extent), count)
    segments, indices = (_indices(file, name, level, slot) for slot in (2, 4))
    counts = np.diff(segments)
    if segments.size != count + 1 or segments[0] != 0 or (counts < 0).any() or segments[-1] != indices.size:
        raise file.flat.damaged(f"the sparsity of tensor {name!r} has segments that do not fit")
    if indices.size and not 0 <= indices.min() <= indices.max() < extent:
        raise file.flat.damaged(f"the sparsity of tensor {name!r} has places outside of an axis of {extent}")
    return np.repeat(np.arange(count), counts), indices


def _indices(file: LiteRTFile, name: str, level: Table, slot: int) -> NDArray[np.int64]:
    dtype = _INDEX_DTYPES.get(level.number(slot, "B"))
    table = None if dtype is None else level.table(slot + 1, f"the sparsity of tensor {name!r}")
    array = None if table is None or dtype is None else table.array(0, dtype)
    if array is None:
        raise file.flat.damaged(f"the sparsity of tensor {name!r} has no list of places")
    return array.astype(np.int64)
