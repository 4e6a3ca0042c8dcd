"""ONNX's element types in torch, and tensors of either from the other.

torch has no 2- and 4-bit integers and no arithmetic on unsigned integers of 16 bits and more. The first are held
unpacked in int8 or uint8, 4-bit floats in float32; the second have their own dtypes and are widened to int64 where they
are computed with (`fewbit.torchgraph.execute`).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir import tensor_adapters
from torch import Tensor

from fewbit.errors import ModelError

CONTAINERS: dict[ir.DataType, torch.dtype] = {
    ir.DataType.INT2: torch.int8,
    ir.DataType.INT4: torch.int8,
    ir.DataType.UINT2: torch.uint8,
    ir.DataType.UINT4: torch.uint8,
    ir.DataType.FLOAT4E2M1: torch.float32,
}
"""Types that torch does not have, and what holds their values."""

WIDENED = (torch.uint16, torch.uint32, torch.uint64)
"""Types that torch stores and does not compute with."""

_BITS: dict[torch.dtype, type[np.generic]] = {
    torch.bfloat16: np.int16,
    torch.float8_e4m3fn: np.uint8,
    torch.float8_e4m3fnuz: np.uint8,
    torch.float8_e5m2: np.uint8,
    torch.float8_e5m2fnuz: np.uint8,
    torch.float8_e8m0fnu: np.uint8,
}
"""Types that numpy does not have, and the integers that carry their bits."""

_NUMPY: dict[torch.dtype, type[np.generic]] = {
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e4m3fnuz: ml_dtypes.float8_e4m3fnuz,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.float8_e5m2fnuz: ml_dtypes.float8_e5m2fnuz,
    torch.float8_e8m0fnu: ml_dtypes.float8_e8m0fnu,
}


def torch_dtype(dtype: ir.DataType) -> torch.dtype:
    """The dtype that holds values of an ONNX type. Raises ModelError for strings, which torch cannot hold."""
    if dtype in CONTAINERS:
        return CONTAINERS[dtype]
    try:
        return tensor_adapters.to_torch_dtype(dtype)
    except TypeError as error:
        raise ModelError(f"torch has no tensors of type {dtype.name}") from error


def to_tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor with the numbers of an array of any ONNX type but strings; it shares memory only where it may be written.

    Arrays of 2- and 4-bit types (ml_dtypes) give their containers.
    """
    onnx_dtype = ir.DataType.from_numpy(array.dtype)
    dtype = torch_dtype(onnx_dtype)
    if onnx_dtype in CONTAINERS:
        array = array.astype(np.dtype(str(dtype).removeprefix("torch.")))
    array = np.require(array, requirements=["C", "W"]).reshape(array.shape)
    if dtype in _BITS:
        return torch.from_numpy(array.view(_BITS[dtype])).view(dtype)
    return torch.from_numpy(array)


def to_array(tensor: Tensor) -> NDArray[np.generic]:
    """The numbers of a tensor; bfloat16 and 8-bit floats come in the types of ml_dtypes."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in _BITS:
        bits = torch.int16 if tensor.dtype == torch.bfloat16 else torch.uint8
        return tensor.contiguous().view(bits).numpy().view(_NUMPY[tensor.dtype])
    return tensor.numpy()
