"""Constants of the file as values of the hub: floats as they are, integers behind a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import ModelError
from fewbit.formats.litert.read.file import Quantization, Tensor

if TYPE_CHECKING:
    from fewbit.formats.litert.read.build import Builder

OPSET_NARROW = 21
"""The first that quantizes to 4 and 16 bits, or in blocks."""


def constant_value(b: Builder, index: int, perm: Sequence[int], shape: Sequence[int] | None = None) -> ir.Value:
    """The numbers of a constant; of a quantized one by a DequantizeLinear."""
    tensor, quantization = b.tensor(b.source(index)), b.quantization(index)
    found = b.array(index)
    if found is None:
        raise ModelError(f"{b.file.label}: tensor {tensor.name!r} is no constant")
    array = found.transpose(perm)
    if quantization is None:
        return b.named(array if shape is None else array.reshape(shape), tensor)
    if quantization.blocks is not None:
        value = blockwise(b, tensor, found, quantization, perm)
        return value if shape is None else b.emit("Reshape", [value, list(shape)])
    per_axis = quantization.scales.size > 1
    axis = list(perm).index(quantization.axis) if per_axis else 0
    if per_axis and shape is not None:
        axis = _axis_after(array.shape, shape, axis)
    stored = array if shape is None else array.reshape(shape)
    if tensor.dtype in (ir.DataType.INT64, ir.DataType.INT2):
        # No DequantizeLinear takes them. float64 holds the product exactly before it is rounded once.
        along = [-1 if i == axis else 1 for i in range(stored.ndim)] if per_axis else [1] * stored.ndim
        zeros, scales = (
            quantization.zero_points.reshape(along),
            quantization.scales.astype(np.float64).reshape(along),
        )
        return b.named(((stored.astype(np.int64) - zeros) * scales).astype(np.float32), tensor)
    value = b.named(stored, tensor)
    scale, zero = b.scale_of(quantization, tensor.dtype or ir.DataType.UNDEFINED)
    return b.emit("DequantizeLinear", [value, scale, zero], axis=axis if per_axis else None)


def blockwise(
    b: Builder, tensor: Tensor, array: NDArray[np.generic], quantization: Quantization, perm: Sequence[int]
) -> ir.Value:
    """A matrix with a scale for each block of its last axis; the scales are a constant of the file's, in float16."""
    blocks = quantization.blocks
    if blocks is None or array.ndim != 2 or not 0 < blocks.scales < len(b.subgraph.tensors):
        raise ModelError(
            f"{b.file.label}: tensor {tensor.name!r} of shape {array.shape} has scales for blocks: only matrices can"
        )
    scales, zeros = b.array(blocks.scales), None
    if blocks.zero_points is not None and blocks.zero_points < len(b.subgraph.tensors):
        zeros = b.array(blocks.zero_points)
    rows, columns = array.shape
    if scales is None or blocks.size <= 0 or scales.size * blocks.size != rows * columns or columns % blocks.size:
        raise b.file.flat.damaged(
            f"tensor {tensor.name!r} of shape {array.shape} has blocks of {blocks.size}, which its scales do not fit"
        )
    shape = (rows, columns // blocks.size)
    zero = np.zeros(shape, np.int8) if zeros is None or zeros.size != scales.size else zeros.reshape(shape)
    b.opset = OPSET_NARROW
    stored = b.named(array.transpose(perm), tensor)
    scale = scales.astype(np.float32).reshape(shape).transpose(perm)
    point = b.constant(zero.transpose(perm).astype(array.dtype), "zero_point", tensor.dtype)
    return b.emit("DequantizeLinear", [stored, scale, point], axis=list(perm).index(1), block_size=blocks.size)


def dtype_of(array: NDArray[np.generic], tensor: Tensor) -> ir.DataType | None:
    """What a constant of a tensor is: 4-bit numbers have a dtype of their own."""
    return (
        tensor.dtype if tensor.dtype is not None and tensor.dtype.bitwidth == 4 else ir.DataType.from_numpy(array.dtype)
    )


def _axis_after(before: Sequence[int], after: Sequence[int], axis: int) -> int:
    """Where a Reshape that only adds or drops axes of one entry puts an axis."""
    left = [size for size in before[: axis + 1] if size != 1]
    seen = 0
    for place, size in enumerate(after):
        seen += size != 1
        if seen == len(left) and size == before[axis]:
            return place
    return axis
