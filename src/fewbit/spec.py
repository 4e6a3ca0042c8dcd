"""The plain data that every other module speaks: dtypes, quantization specs, parameters and sites."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from fewbit.errors import RecipeError

Rounding = Literal["half_even", "half_away", "floor"]
"""How a real number becomes an integer: ties to even (ONNX, numpy), ties away from zero (TFLite), towards -inf."""

SiteKind = Literal["edge", "constant"]

PER_TENSOR: tuple[int, ...] = ()
"""The block shape of one block that spans a tensor of any rank."""


_FLOAT_BITS = {"float": (16, 32), "bfloat": (16,), "e4m3fn": (8,), "e5m2": (8,)}
_FLOAT8_NAMES = {"float8e4m3": "e4m3fn", "float8e5m2": "e5m2"}


@dataclass(frozen=True, slots=True)
class DType:
    """A number format: kind and width in bits.

    `int` and `uint` may have 2 to 16 bits (and 32 for biases); `float` 16 or 32, `bfloat` 16; `e4m3fn` and `e5m2` are
    the 8-bit floats of ONNX, written `float8e4m3` and `float8e5m2`.
    """

    kind: Literal["int", "uint", "float", "bfloat", "e4m3fn", "e5m2"]
    bits: int

    def __post_init__(self) -> None:
        allowed = _FLOAT_BITS.get(self.kind, (*range(2, 17), 32))
        if self.bits not in allowed:
            raise RecipeError(f"dtype {self.kind}{self.bits} does not exist; {self.kind} has {allowed} bits")

    @classmethod
    def parse(cls, text: str) -> DType:
        """`int8`, `uint4`, `float16`, `bfloat16`, `float8e4m3` ..."""
        if text in _FLOAT8_NAMES:
            return cls(_FLOAT8_NAMES[text], 8)  # type: ignore[arg-type]
        match = re.fullmatch(r"(int|uint|float|bfloat)(\d+)", text)
        if not match:
            raise RecipeError(
                f"dtype {text!r} is not known; use int2..int16, uint2..uint16, float16, bfloat16, "
                f"{' or '.join(_FLOAT8_NAMES)}"
            )
        return cls(match[1], int(match[2]))  # type: ignore[arg-type]

    def __str__(self) -> str:
        for name, kind in _FLOAT8_NAMES.items():
            if kind == self.kind:
                return name
        return f"{self.kind}{self.bits}"

    @property
    def is_float8(self) -> bool:
        return self.kind in _FLOAT8_NAMES.values()

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def qmin(self) -> int:
        """Smallest integer."""
        self._require_integer()
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def qmax(self) -> int:
        """Largest integer."""
        self._require_integer()
        return (1 << (self.bits - (self.kind == "int"))) - 1

    @property
    def storage(self) -> np.dtype:
        """The smallest whole-byte numpy dtype that holds the values unpacked."""
        if not self.is_integer:
            return _FLOAT_STORAGE[self.kind, self.bits]
        width = 8 if self.bits <= 8 else 16 if self.bits <= 16 else 32
        return np.dtype(f"{self.kind}{width}")

    def _require_integer(self) -> None:
        if not self.is_integer:
            raise RecipeError(f"dtype {self} has no integer range")


_FLOAT_STORAGE: dict[tuple[str, int], np.dtype] = {
    ("float", 32): np.dtype(np.float32),
    ("float", 16): np.dtype(np.float16),
    ("bfloat", 16): np.dtype(ml_dtypes.bfloat16),
    ("e4m3fn", 8): np.dtype(ml_dtypes.float8_e4m3fn),
    ("e5m2", 8): np.dtype(ml_dtypes.float8_e5m2),
}

INT2 = DType("int", 2)
INT4, UINT4 = DType("int", 4), DType("uint", 4)
INT8, UINT8 = DType("int", 8), DType("uint", 8)
INT16, UINT16 = DType("int", 16), DType("uint", 16)
INT32 = DType("int", 32)
FLOAT16, FLOAT32 = DType("float", 16), DType("float", 32)
BFLOAT16 = DType("bfloat", 16)
FLOAT8E4M3, FLOAT8E5M2 = DType("e4m3fn", 8), DType("e5m2", 8)


@dataclass(frozen=True, slots=True)
class QSpec:
    """How a tensor is quantized, without the numbers.

    dtype: the stored format.
    block_shape: the elements that share one scale, as a shape; -1 spans a whole axis and () the whole tensor. For a
        weight (O, I): () or (-1, -1) is per tensor, (1, -1) per output channel, (1, 32) groups of 32 along the inputs.
    symmetric: the zero point is fixed (0 for int, the middle 2**(bits-1) for uint).
    narrow: the lowest integer is not used, so that symmetric int8 is -127..127.
    rounding: how values become integers.
    pair_limit: of a weight for kernels that add two products in 16 bits: the most that the integers of one sign of two
        neighbouring inputs add up to (`fewbit.core.weights.pairs`). None: no limit.
    codebook: the table whose levels the (unsigned) integers index, `kmeans` or a name of `fewbit.core.codebook.TABLES`;
        None where they are affine.
    """

    dtype: DType
    block_shape: tuple[int, ...] = PER_TENSOR
    symmetric: bool = True
    narrow: bool = False
    rounding: Rounding = "half_even"
    pair_limit: int | None = None
    codebook: str | None = None

    def __post_init__(self) -> None:
        if self.codebook is not None and not (self.dtype.kind == "uint" and self.dtype.bits <= 8):
            raise RecipeError(
                f"codebook {self.codebook} is indexed by uint2 to uint8, not {self.dtype}; set such a dtype"
            )

    @property
    def qmin(self) -> int:
        return self.dtype.qmin + self.narrow

    @property
    def qmax(self) -> int:
        return self.dtype.qmax

    @property
    def per_tensor(self) -> bool:
        return all(size == -1 for size in self.block_shape)


@dataclass(frozen=True, slots=True, eq=False)
class QParams:
    """The numbers of a quantization: real = (q - zero_point) * scale, or table[q] * scale with a codebook, or q * scale
    for 8-bit floats.

    scale: float32, > 0, one value a block, shaped as the grid of blocks (shape () for one block).
    zero_point: int32, same shape, within [spec.qmin, spec.qmax]; 0 where it means nothing.
    table: float32 (levels,), ascending, at most 2**bits levels; None without a codebook.
    """

    spec: QSpec
    scale: NDArray[np.float32] = field(repr=False)
    zero_point: NDArray[np.int32] = field(repr=False)
    table: NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """A place that can be quantized.

    name: the value's name in the hub graph.
    kind: `edge` for an activation, `constant` for a weight.
    position: index in topological order of the node that makes the edge (-1 for a graph input) or, for a constant,
        of the first node that reads it.
    """

    name: str
    kind: SiteKind
    position: int
