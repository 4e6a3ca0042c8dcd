"""The range with the least mean p-th power of the quantization error, for any p: the larger p, the less is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.core.ranges.mse import search
from fewbit.core.ranges.through import FUNCTIONS, slope
from fewbit.core.stats import TensorStats
from fewbit.errors import InputError
from fewbit.spec import QSpec


def range_(stats: TensorStats, spec: QSpec, *, norm: float, through: str = "identity") -> tuple[float, float]:
    """(low, high) that minimizes E[|f(x) - f(q(x))|^p] over the histogram, p = `norm` ≥ 1.

    As `fewbit.core.ranges.mse.range_`, which is p = 2, with the error of a uniform value within a step Δ,
    (Δ/2)^p / (p + 1). (Nahshan et al. 2021, "Loss Aware Post-Training Quantization", section 4.1.)

    Raises:
        InputError: norm < 1.
    """
    if norm < 1.0:
        raise InputError(f"ranges are chosen by Lp norms of p ≥ 1, not {norm:g}")
    return search(_Error(stats, through, norm), stats, spec)


class _Error:
    """Mean p-th power of the error of many ranges at once."""

    def __init__(self, stats: TensorStats, through: str, norm: float) -> None:
        lower, self.upper, counts = stats.histogram.support()
        middle = (lower + self.upper) / 2
        self.function, self.norm = FUNCTIONS[through], norm
        self.values, self.weights = self.function(middle), counts.astype(np.float64)
        self.usable = counts.size > 0
        steep = self.weights * np.abs(slope(through, middle)) ** norm
        self.sums = np.zeros((2, counts.size + 1))
        np.cumsum([steep, steep * np.abs(middle) ** norm], axis=1, out=self.sums[:, 1:])

    def __call__(self, low: NDArray[np.float64], high: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
        step = (high - low) / levels
        steep, near = self.sums
        a, b = self._index(low), self._index(high)
        c, d = np.clip(self._index(-step / 2), a, b), np.clip(self._index(step / 2), a, b)
        inside = (steep[c] - steep[a] + steep[b] - steep[d]) * (step / 2) ** self.norm / (self.norm + 1)
        clipped = self._clipped(low, a, below=True) + self._clipped(high, b, below=False)
        return np.asarray(inside + clipped + (near[d] - near[c]), np.float64)

    def _clipped(self, ends: NDArray[np.float64], index: NDArray[np.intp], *, below: bool) -> NDArray[np.float64]:
        """What lies outside each end."""
        found: dict[float, float] = {}
        for end, position in zip(ends.tolist(), index.tolist(), strict=True):
            if end not in found:
                part = slice(0, position) if below else slice(position, None)
                lost = np.abs(self.values[part] - float(self.function(np.asarray(end)))) ** self.norm
                found[end] = float(self.weights[part] @ lost)
        return np.array([found[end] for end in ends.tolist()])

    def _index(self, value: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.searchsorted(self.upper, value, side="right")
