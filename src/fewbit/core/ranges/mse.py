"""The range with the least mean squared quantization error."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewbit.core.ranges.through import FUNCTIONS, slope
from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec

_CANDIDATES = 48  # on each pass over one end of the range
_SMALLEST = 0.05  # of the observed range that a candidate may keep


def range_(stats: TensorStats, spec: QSpec, *, through: str = "identity") -> tuple[float, float]:
    """(low, high) that minimizes E[(f(x) - f(q(x)))²] over the histogram.

    f is the identity, or a saturating function that alone reads the value (`through`, a name of
    `fewbit.core.ranges.through.FUNCTIONS`): what it flattens may be clipped. Values outside are clipped: their error is
    exact. Values inside are taken as uniform within a step Δ, which gives Δ²/12; those nearer to zero than Δ/2 become
    zero, so their error is x² (Banner et al. 2019, "Post training 4-bit quantization of convolutional networks for
    rapid-deployment", equations 3 to 5, without an assumed distribution).
    """
    return search(_Error(stats, through), stats, spec)


class RangeError(Protocol):
    """The error of ranges, arrays of low and high ends, over what a tensor held; `usable` where it held anything."""

    usable: bool

    def __call__(self, low: NDArray[np.float64], high: NDArray[np.float64], levels: int) -> NDArray[np.float64]: ...


def search(error: RangeError, stats: TensorStats, spec: QSpec) -> tuple[float, float]:
    """(low, high) of the least error: both ends by turns, over the whole span and then near the best."""
    low, high = min(stats.minimum, 0.0), max(stats.maximum, 0.0)
    levels = spec.qmax - spec.qmin
    if low == high or not error.usable:
        return low, high
    if spec.symmetric:
        peak = max(-low, high)
        ends = peak * np.linspace(_SMALLEST, 1.0, 4 * _CANDIDATES)
        best = float(ends[np.argmin(error(-ends, ends, levels))])
        return -best, best
    for step in (1.0, 0.1):
        for _ in range(2 if low < 0.0 < high else 1):
            if high > 0.0:
                ends = _around(high, max(stats.maximum, 0.0), step)
                high = float(ends[np.argmin(error(np.full(ends.shape, low), ends, levels))])
            if low < 0.0:
                ends = _around(low, min(stats.minimum, 0.0), step)
                low = float(ends[np.argmin(error(ends, np.full(ends.shape, high), levels))])
    return low, high


def _around(current: float, extreme: float, step: float) -> NDArray[np.float64]:
    """Candidates for one end: the whole span at first (step 1), then near the best so far."""
    if step == 1.0:
        return extreme * np.linspace(_SMALLEST, 1.0, _CANDIDATES)
    ends = current + extreme * np.linspace(-0.5, 0.5, _CANDIDATES // 2) * step
    low, high = sorted((extreme * _SMALLEST, extreme))
    return np.clip(ends, low, high)


class _Error:
    """Mean squared error of many ranges at once, from running sums over the histogram."""

    def __init__(self, stats: TensorStats, through: str) -> None:
        lower, upper, counts = stats.histogram.support()
        middle = (lower + upper) / 2
        self.function = FUNCTIONS[through]
        f, weights = self.function(middle), counts.astype(np.float64)
        square = (lower * lower + lower * upper + upper * upper) / 3  # E[x²] of a uniform bin
        f2 = square if through == "identity" else f * f
        steep = weights * slope(through, middle) ** 2
        self.upper = upper
        self.usable = counts.size > 0
        self.sums = np.zeros((5, counts.size + 1))
        np.cumsum([weights, weights * f, weights * f2, steep, steep * square], axis=1, out=self.sums[:, 1:])

    def __call__(self, low: NDArray[np.float64], high: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
        step = (high - low) / levels
        count, first, second, steep, near = self.sums
        a, b = self._index(low), self._index(high)
        f_low, f_high = self.function(low), self.function(high)
        below = second[a] - 2 * f_low * first[a] + f_low * f_low * count[a]
        n, s1, s2 = count[-1] - count[b], first[-1] - first[b], second[-1] - second[b]
        above = s2 - 2 * f_high * s1 + f_high * f_high * n
        c = np.clip(self._index(-step / 2), a, b)
        d = np.clip(self._index(step / 2), a, b)
        inside = (steep[c] - steep[a] + steep[b] - steep[d]) * step * step / 12
        return below + above + inside + (near[d] - near[c])

    def _index(self, value: NDArray[np.float64]) -> NDArray[np.intp]:
        return np.searchsorted(self.upper, value, side="right")
