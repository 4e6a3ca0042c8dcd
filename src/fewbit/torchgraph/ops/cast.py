"""Changes of type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import from_torch_dtype
from torch import Tensor

from fewbit.torchgraph.dtypes import CONTAINERS, torch_dtype
from fewbit.torchgraph.node import Node, Row

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)

INTEGER_BITS: dict[ir.DataType, int] = {
    ir.DataType.INT4: 4,
    ir.DataType.UINT4: 4,
    ir.DataType.INT2: 2,
    ir.DataType.UINT2: 2,
}
"""Integers that torch does not have."""

_E4M3FN_OVERFLOW = 464.0  # halfway from the largest number, 448, to 480, whose code is NaN

_E8M0_BIAS, _E8M0_HIGHEST = 127, 254  # the byte b stands for 2^(b - 127); 255 is NaN (OCP MX 1.0, section 5.4.1)


def cast(x: Tensor, dtype: ir.DataType, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """x in another type, or in the container of a type that torch does not have.

    Args:
        saturate: numbers beyond an 8-bit float's range become its largest, else its infinity or NaN.
        round_mode: for FLOAT8E8M0, which has powers of two only: `up`, `down` or `nearest`.

    Integers of 2 and 4 bits keep the low bits.
    """
    target = torch_dtype(dtype)
    if dtype in INTEGER_BITS:
        return _low_bits(x.to(torch.int64), INTEGER_BITS[dtype], signed=dtype.is_signed()).to(target)
    if dtype == ir.DataType.FLOAT4E2M1:
        return _to_float4(x.float())
    if target == torch.float8_e8m0fnu:
        return _to_float8_e8m0(x.float(), saturate, round_mode)
    if x.is_floating_point() and x.element_size() == 1:
        x = x.float()
    if target in FLOAT8 and saturate:
        limit = torch.finfo(target).max
        return torch.clamp(x.float(), -limit, limit).to(target)
    if target == torch.float8_e4m3fn:  # torch saturates in any case
        return torch.where(x.abs() > _E4M3FN_OVERFLOW, torch.nan, x.float()).to(target)
    return x.to(target)


def _low_bits(x: Tensor, bits: int, signed: bool) -> Tensor:
    kept = x & ((1 << bits) - 1)
    return torch.where(kept >= 1 << (bits - 1), kept - (1 << bits), kept) if signed else kept


_FLOAT4 = np.arange(8, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def _to_float4(x: Tensor) -> Tensor:
    """The nearest of the numbers of 4-bit floats, halfway the one with an even last bit. It has no NaN: that is -0."""
    levels = torch.from_numpy(_FLOAT4).to(x.device)
    middles = (levels[1:] + levels[:-1]) / 2
    size = x.abs()
    index = torch.bucketize(size, middles)  # halfway: the lower one
    odd_tie = (index % 2 == 1) & torch.isin(size, middles)
    return torch.where(torch.isnan(x), -0.0, torch.copysign(levels[index + odd_tie], x))


def _to_float8_e8m0(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """2 to the exponent of |x|, rounded; what is too small is the smallest, 2^-127."""
    mantissa, exponent = torch.frexp(x.abs())  # x = mantissa · 2^exponent, 0.5 ≤ mantissa < 1
    up = {"up": mantissa > 0.5, "down": torch.zeros_like(x, dtype=torch.bool), "nearest": mantissa >= 0.75}[round_mode]
    byte = exponent - 1 + up + _E8M0_BIAS
    byte = torch.where(x == 0, 0, byte)
    too_large = torch.isinf(x) | (byte > _E8M0_HIGHEST)
    byte = torch.where(too_large, _E8M0_HIGHEST if saturate else _E8M0_HIGHEST + 1, byte.clamp(0, _E8M0_HIGHEST))
    byte = torch.where(torch.isnan(x), _E8M0_HIGHEST + 1, byte)
    return byte.to(torch.uint8).view(torch.float8_e8m0fnu)


def _cast(node: Node, x: Tensor) -> Tensor:
    return cast(x, ir.DataType(node["to"]), bool(node.get("saturate", 1)), node.get("round_mode", "up"))


def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    named = node.inputs[1]
    dtype = named if named in CONTAINERS else from_torch_dtype(like.dtype)
    return cast(x, dtype, bool(node.get("saturate", 1)), node.get("round_mode", "up"))


ROWS: dict[str, Row] = {
    "Cast": Row(_cast, widen=False),
    "CastLike": Row(_cast_like, widen=False),
}
