"""Integers and 8-bit floats that stand for real numbers, in ONNX's operators and those of ONNX Runtime.

They compute what the runtime computes, so the rounding passes no gradient; training uses
`fewbit.torchgraph.fake_quantize` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.dtypes import torch_dtype
from fewbit.torchgraph.node import Node, Row
from fewbit.torchgraph.ops.cast import INTEGER_BITS, cast
from fewbit.torchgraph.ops.conv import convolve


def _spread(values: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Scales or zero points shaped to go with x: one of all, one along an axis, or one a block of an axis."""
    if block:
        return values.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if values.dim() != 1:
        return values
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


def _range(dtype: ir.DataType) -> tuple[int, int]:
    """Lowest and highest integer."""
    bits = INTEGER_BITS.get(dtype, torch.iinfo(torch_dtype(dtype)).bits)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.is_signed() else (0, (1 << bits) - 1)


def _to_integers(x: Tensor, zero_point: Tensor | float, dtype: ir.DataType) -> Tensor:
    low, high = _range(dtype)
    return torch.clamp(torch.round(x) + zero_point, low, high).to(torch_dtype(dtype))


def _quantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """round(x / scale) + zero_point, halves to even, within the range of the type; 8-bit floats are cast."""
    axis, block = node["axis"], node.get("block_size", 0)
    dtype = ir.DataType(node.get("output_dtype", 0) or ir.DataType.UINT8)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        dtype = node.inputs[2]
    scale = _spread(scale, x, axis, block)
    if node.get("precision", 0):
        precision = node.dtype("precision")
        x, scale = x.to(precision), scale.to(precision)
    ratio = (x / scale).float()
    if dtype.is_floating_point():
        return cast(ratio, dtype, bool(node.get("saturate", 1)))
    return _to_integers(ratio, 0.0 if zero_point is None else _spread(zero_point, x, axis, block).float(), dtype)


def _dequantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """(x - zero_point) · scale, in the type of the scale unless `output_dtype` says another."""
    axis, block = node["axis"], node.get("block_size", 0)
    dtype = node.dtype("output_dtype") if node.get("output_dtype", 0) else scale.dtype
    wide = scale.dtype if scale.dtype == torch.float64 else torch.float32
    values = x.to(wide)
    if zero_point is not None:
        values = values - _spread(zero_point, x, axis, block).to(wide)
    return (values * _spread(scale.to(wide), x, axis, block)).to(dtype)


_UINT8_LEVELS = 255


def _dynamic_quantize(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 with the range of this tensor, widened to hold 0."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = torch.where(low == high, 1.0, high - low) / _UINT8_LEVELS
    zero_point = torch.round(torch.clamp(-low / scale, 0, _UINT8_LEVELS))
    return _to_integers(x / scale, zero_point, ir.DataType.UINT8), scale, zero_point.to(torch.uint8)


def _shifted(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """x - zero_point in float64, which holds the sums of products of 8-bit integers exactly."""
    wide = x.double()
    return wide if zero_point is None else wide - _spread(zero_point, x, axis, 0).double()


def _conv_integer(
    node: Node, x: Tensor, w: Tensor, x_zero: Tensor | None = None, w_zero: Tensor | None = None
) -> Tensor:
    return convolve(node, _shifted(x, x_zero, 1), _shifted(w, w_zero, 0)).to(torch.int32)


def _matmul_integer(
    node: Node, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    return torch.matmul(_shifted(a, a_zero, -2), _shifted(b, b_zero, -1)).to(torch.int32)


def _qlinear_conv(node: Node, x: Tensor, x_scale: Tensor, x_zero: Tensor, w: Tensor, *rest: Any) -> Tensor:
    w_scale, w_zero, y_scale, y_zero, bias = [*rest, None][:5]
    sums = convolve(node, _shifted(x, x_zero, 1), _shifted(w, w_zero, 0), None if bias is None else bias.double())
    factor = x_scale * _spread(w_scale, sums, 1, 0) / y_scale
    return _requantize(node, sums.float() * factor, y_zero)


def _qlinear_matmul(
    node: Node,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    sums = torch.matmul(_shifted(a, a_zero, -2), _shifted(b, b_zero, -1))
    factor = _spread(a_scale, a, -2, 0).float() * _spread(b_scale, b, -1, 0).float() / y_scale.float()
    return _requantize(node, sums.float() * factor, y_zero)


def _requantize(node: Node, x: Tensor, zero_point: Tensor) -> Tensor:
    dtype = node.outputs[0] or ir.DataType.UINT8
    return _to_integers(x, zero_point.float(), dtype)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """uint8 (..., bytes) to uint8 (..., bytes · 8 / bits): the lowest bits of a byte come first."""
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)).flatten(-2)


def _matmul_nbits(
    node: Node,
    x: Tensor,
    packed: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    order: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """x times a packed weight. packed: uint8 (N, blocks, block_size · bits / 8); scales: N · blocks numbers.

    order: for each input its block, where blocks are not stretches. Without zero points the middle of the range is zero.
    """
    n, k, bits, block = node["N"], node["K"], node.get("bits", 4), node["block_size"]
    integers = _unpack(packed.reshape(n, -1), bits)[:, :k].to(x.dtype)
    scale = scales.reshape(n, -1)
    zero: Tensor | float = float(1 << (bits - 1))
    if zero_points is not None:
        unpacked = _unpack(zero_points.reshape(n, -1), bits) if zero_points.dtype == torch.uint8 else zero_points
        zero = unpacked.reshape(n, -1)[:, : scale.shape[1]].to(x.dtype)
    blocks = torch.arange(k, device=x.device) // block if order is None else order.long()
    zero = zero[:, blocks] if isinstance(zero, Tensor) else zero
    return functional.linear(x, (integers - zero) * scale[:, blocks].to(x.dtype), bias)


def _gather_block_quantized(
    node: Node, data: Tensor, indices: Tensor, scales: Tensor, zero_points: Tensor | None = None
) -> Tensor:
    """Rows of a table that is quantized in blocks. Packed bytes hold their numbers along the last axis."""
    bits, axis, block = node.get("bits", 4), node.get("quantize_axis", 1) % data.dim(), node.get("block_size", 128)
    gather, is_packed = node.get("gather_axis", 0), node.inputs[0] == ir.DataType.UINT8
    indices = indices.long()
    indices = torch.where(indices < 0, indices + data.shape[gather], indices)
    picked = [_take(t, indices, gather) for t in (data, scales)]
    zero: Tensor | int = 1 << (bits - 1) if is_packed else 0
    if zero_points is not None:
        zero = _take(zero_points, indices, gather)
    axis += indices.dim() - 1 if axis > gather else 0
    if is_packed and bits < 8:
        picked[0] = _unpack(picked[0], bits)
        zero = _unpack(zero, bits).narrow(-1, 0, picked[1].shape[-1]) if isinstance(zero, Tensor) else zero
    scale = _spread(picked[1], picked[0], axis, block)
    zero = _spread(zero, picked[0], axis, block).to(scale.dtype) if isinstance(zero, Tensor) else zero
    return (picked[0].to(scale.dtype) - zero) * scale


def _take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    shape: Sequence[int] = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, indices.reshape(-1)).reshape(shape)


ROWS: dict[str, Row] = {
    "QuantizeLinear": Row(_quantize),
    "DequantizeLinear": Row(_dequantize),
    "DynamicQuantizeLinear": Row(_dynamic_quantize),
    "ConvInteger": Row(_conv_integer),
    "MatMulInteger": Row(_matmul_integer),
    "QLinearConv": Row(_qlinear_conv),
    "QLinearMatMul": Row(_qlinear_matmul),
    "com.microsoft.QuantizeLinear": Row(_quantize),
    "com.microsoft.DequantizeLinear": Row(_dequantize),
    "com.microsoft.MatMulNBits": Row(_matmul_nbits),
    "com.microsoft.GatherBlockQuantized": Row(_gather_block_quantized),
}
