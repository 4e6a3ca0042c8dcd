"""Integers of 2 and 4 bits packed into bytes as ONNX stores them, and of any other width as a bit stream.

ONNX (IR specification, "Tensor element types"): the first element lies in the lowest bits of the first byte; the last byte is
filled up with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import InputError
from fewbit.spec import DType


def pack(values: NDArray[np.integer], dtype: DType) -> NDArray[np.uint8]:
    """Bytes that hold integers of a dtype of 2 to 8 bits, in the order of the flattened array.

    Raises:
        InputError: a value that the dtype does not hold, or a width above 8.
    """
    bits = _bits(dtype)
    flat = values.reshape(-1)
    if flat.size and (int(flat.min()) < dtype.qmin or int(flat.max()) > dtype.qmax):
        raise InputError(f"{dtype} holds {dtype.qmin}..{dtype.qmax}, given {int(flat.min())}..{int(flat.max())}")
    unsigned = flat.astype(np.int16).astype(np.uint8) & np.uint8((1 << bits) - 1)
    if bits == 8:
        return unsigned
    stream = np.unpackbits(unsigned[:, None], axis=1, bitorder="little", count=bits)
    return np.packbits(stream.reshape(-1), bitorder="little")


def unpack(data: NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """The integers that `pack` stored, in `dtype.storage` and of this shape.

    Raises:
        InputError: more or fewer bytes than the shape takes, or a width above 8.
    """
    bits, count = _bits(dtype), int(np.prod(shape))
    wanted = -(-count * bits // 8)
    if data.size != wanted:
        raise InputError(f"{count} values of {dtype} take {wanted} bytes, given {data.size}")
    stream = np.unpackbits(data.reshape(-1), bitorder="little", count=count * bits).reshape(count, bits)
    values = np.packbits(stream, axis=1, bitorder="little").reshape(-1).astype(np.int16)
    if dtype.kind == "int":
        values[values > dtype.qmax] -= 1 << bits
    return values.astype(dtype.storage).reshape(shape)


def _bits(dtype: DType) -> int:
    if not dtype.is_integer or dtype.bits > 8:
        raise InputError(f"only integers of 2 to 8 bits are packed, not {dtype}")
    return dtype.bits
