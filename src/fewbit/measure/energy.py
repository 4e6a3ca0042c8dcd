"""The energy of a run, estimated from what is multiplied and moved, for machines without a meter.

It is that of M. Horowitz, "Computing's Energy Problem (and what we can do about it)", ISSCC 2014, figure
1.1.9: picojoules in 45 nm at 0.9 V. Newer chips take less of everything; what counts here is the ratio of two models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arithmetic = Literal["int8", "int16", "float16", "float32"]

SOURCE = "estimate from multiplications and bytes moved (Horowitz 2014, figure 1.1.9: 45 nm)"

MULTIPLY_ADD: Mapping[Arithmetic, float] = {
    "int8": 0.2 + 0.1,  # sums have 32 bits
    "int16": 0.8 + 0.1,  # not in the figure: a multiplier grows with the square of its width, 0.2 of 8 bits, 3.1 of 32
    "float16": 1.1 + 0.4,
    "float32": 3.7 + 0.9,
}
"""pJ of one multiplication and one addition."""

DRAM_BYTE = 1300.0 / 8
"""pJ: 1.3 to 2.6 nJ for 64 bits; the lower end. Weights come from there once a run."""

CACHE_BYTE = 100.0 / 8
"""pJ: 100 pJ for 64 bits of a cache of 1 MB. Activations are written there and read back."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a model does.

    multiplications: by the arithmetic that they are done in. weight_bytes: of the file. activation_bytes: of all that layers
    write.
    """

    multiplications: Mapping[Arithmetic, float]
    weight_bytes: float
    activation_bytes: float


def estimated(work: Work) -> float:
    """Joules of one run."""
    arithmetic = sum(count * MULTIPLY_ADD[kind] for kind, count in work.multiplications.items())
    moved = work.weight_bytes * DRAM_BYTE + 2 * work.activation_bytes * CACHE_BYTE
    return (arithmetic + moved) * 1e-12
