"""Tables of levels that do not depend on the weight: float32, ascending, with a largest magnitude of 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import RecipeError

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)

FP4_BNB_CODES = (0.0, 0.005208333333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
"""Magnitude of each 3-bit code of bitsandbytes' FP4; bit 3 is the sign. 0.0052083333 is 0.0625 / 12."""


def nf4(bits: int = 4) -> NDArray[np.float32]:
    """NormalFloat, for weights that are normally distributed: (16,), and the index is the code of bitsandbytes.

    Dettmers et al. 2023, "QLoRA", equation 4 and the values of appendix E. The two halves are quantiles of the normal
    distribution, eight steps above zero and seven below.

    Raises:
        RecipeError: bits is not 4.
    """
    _require("nf4", bits, range(4, 5))
    return np.array(_NF4, np.float32)


def fp4(bits: int = 4) -> NDArray[np.float32]:
    """E2M1: (15,), 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, over 6.

    OCP Microscaling Formats specification 1.0, section 5.3.3; ONNX `FLOAT4E2M1`.

    Raises:
        RecipeError: bits is not 4.
    """
    _require("fp4", bits, range(4, 5))
    return _signed(np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]) / 6.0)


def fp4_bnb(bits: int = 4) -> NDArray[np.float32]:
    """The FP4 of bitsandbytes and of onnxruntime's `MatMulBnb4` (quant_type 0): (15,).

    Not E2M1: its only subnormal is 1/192 of the largest value. The index is not the code, see `FP4_BNB_CODES`.

    Raises:
        RecipeError: bits is not 4.
    """
    _require("fp4_bnb", bits, range(4, 5))
    return _signed(np.array(FP4_BNB_CODES))


def pot(bits: int) -> NDArray[np.float32]:
    """Powers of two: (2**bits - 1,), 0 and ±2**-k for k of 0 to 2**(bits-1) - 2.

    Li et al. 2020, "Additive Powers-of-Two Quantization", equation 3, after Miyashita et al. 2016 and Zhou et al. 2017
    ("Incremental Network Quantization", equation 1, which uses half as many exponents).

    Raises:
        RecipeError: bits is not 2 to 8; at 8, the smallest level is already the smallest normal float32.
    """
    _require("pot", bits, range(2, 9))
    return _signed(np.append(0.0, 2.0 ** -np.arange(2 ** (bits - 1) - 1.0)))


def apot(bits: int) -> NDArray[np.float32]:
    """Additive powers of two: (2**bits - 1,), sums of a few powers of two, over the largest sum.

    Li et al. 2020, "Additive Powers-of-Two Quantization", equation 5 with base k = 2: of n terms, term i is 0, 2**-i,
    2**-(i+n) or 2**-(i+2n). One bit is the sign. Where that leaves an odd number (2n + 1), as it does for every even
    width, there is one more term, 0 or 2**-2n, and the smallest power of each other term is halved, as in the authors'
    code for weights: 4 bits are {0, 1, 1/2, 1/8} + {0, 1/4}.

    Raises:
        RecipeError: bits is not 2 to 8.
    """
    _require("apot", bits, range(2, 9))
    n, odd = divmod(bits - 1, 2)
    sums = np.array([0.0, 2.0 ** -(2 * n)] if odd else [0.0])
    for i in range(n):
        term = np.array([0.0, 2.0**-i, 2.0 ** -(i + n), 2.0 ** -(i + 2 * n + odd)])
        sums = np.add.outer(sums, term).reshape(-1)
    return _signed(sums / sums.max())


def _signed(magnitudes: NDArray[np.float64]) -> NDArray[np.float32]:
    # Adding zero turns the -0.0 of a negated zero into 0.0.
    return np.unique(np.append(-magnitudes, magnitudes) + 0.0).astype(np.float32)


def _require(name: str, bits: int, widths: range) -> None:
    if bits not in widths:
        raise RecipeError(f"codebook {name} has {', '.join(map(str, widths))} bits, not {bits}; choose such a width")
