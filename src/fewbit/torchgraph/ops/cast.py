"""Changes of type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from fewbit.torchgraph.dtypes import CONTAINERS, torch_dtype
from fewbit.torchgraph.node import Node, Row

FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)

_NARROW: dict[ir.DataType, int] = {
    ir.DataType.INT4: 4,
    ir.DataType.UINT4: 4,
    ir.DataType.INT2: 2,
    ir.DataType.UINT2: 2,
}


def cast(x: Tensor, dtype: ir.DataType, saturate: bool = True) -> Tensor:
    """x in another type, or in the container of a type that torch does not have.

    Numbers beyond an 8-bit float's range become its largest with `saturate`, else its infinity or NaN. Integers of 2 and 4
    bits keep the low bits.
    """
    target = torch_dtype(dtype)
    if dtype in _NARROW:
        return _low_bits(x.to(torch.int64), _NARROW[dtype], signed=dtype.is_signed()).to(target)
    if dtype == ir.DataType.FLOAT4E2M1:
        return _to_float4(x.float())
    if x.is_floating_point() and x.element_size() == 1:
        x = x.float()
    if target in FLOAT8 and saturate:
        limit = torch.finfo(target).max
        return torch.clamp(x.float(), -limit, limit).to(target)
    return x.to(target)


def _low_bits(x: Tensor, bits: int, signed: bool) -> Tensor:
    kept = x & ((1 << bits) - 1)
    return torch.where(kept >= 1 << (bits - 1), kept - (1 << bits), kept) if signed else kept


_FLOAT4 = np.arange(8, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def _to_float4(x: Tensor) -> Tensor:
    """The nearest of the numbers of 4-bit floats, at halves the one with an even last bit."""
    levels = torch.from_numpy(_FLOAT4).to(x.device)
    middles = (levels[1:] + levels[:-1]) / 2
    size = x.abs()
    index = torch.bucketize(size, middles)  # at a middle: the lower one
    tie = (size == middles[index.clamp(max=len(middles) - 1)]) & (index < len(middles)) & (index % 2 == 1)
    return torch.copysign(levels[index + tie], x)


def _cast(node: Node, x: Tensor) -> Tensor:
    return cast(x, ir.DataType(node["to"]), bool(node.get("saturate", 1)))


def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    dtype = node.inputs[1]
    if dtype in CONTAINERS:
        return cast(x, dtype, bool(node.get("saturate", 1)))
    from onnx_ir.tensor_adapters import from_torch_dtype

    return cast(x, from_torch_dtype(like.dtype), bool(node.get("saturate", 1)))


ROWS: dict[str, Row] = {
    "Cast": Row(_cast, widen=False),
    "CastLike": Row(_cast_like, widen=False),
}
