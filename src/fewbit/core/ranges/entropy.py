"""The range whose quantized distribution diverges least from the float one (Migacz 2017, "8-bit Inference with TensorRT",
GTC S7310, slides 34 to 38)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec

_BINS = 2048


def range_(stats: TensorStats, spec: QSpec) -> tuple[float, float]:
    """(low, high) whose clipped and quantized histogram has the least Kullback-Leibler divergence from the observed one.

    The absolute values are spread over 2,048 equal bins; thresholds grow from the number of levels of one sign to all of
    them, and the chosen threshold cuts both ends. One-sided data gets all the levels.
    """
    low, high = min(stats.minimum, 0.0), max(stats.maximum, 0.0)
    peak = max(-low, high)
    lower, upper, counts = stats.histogram.support()
    if peak == 0.0 or not counts.size:
        return low, high
    two_sided = low < 0.0 < high
    levels = min((spec.qmax - spec.qmin + 1) // (2 if two_sided else 1), _BINS // 2)
    p = _uniform(np.minimum(np.abs(lower), np.abs(upper)), np.maximum(np.abs(lower), np.abs(upper)), counts, peak)
    p[0] = 0.0  # zeros are exact in any range and would hide the rest
    best, threshold = np.inf, _BINS
    for bins in range(levels, _BINS + 1, max(1, levels // 16)):
        divergence = _divergence(p, bins, levels)
        if divergence < best:
            best, threshold = divergence, bins
    edge = peak * threshold / _BINS
    return max(low, -edge), min(high, edge)


def _uniform(
    lower: NDArray[np.float64], upper: NDArray[np.float64], counts: NDArray[np.int64], peak: float
) -> NDArray[np.float64]:
    """The histogram resampled to equal bins over 0..peak, each old bin spread evenly over those that it covers."""
    edges = np.linspace(0.0, peak, _BINS + 1)
    order = np.argsort(upper)
    x = np.concatenate([[0.0], np.maximum.accumulate(upper[order])])
    y = np.concatenate([[0.0], np.cumsum(counts[order]).astype(np.float64)])
    return np.diff(np.interp(edges, x, y))


def _divergence(p: NDArray[np.float64], bins: int, levels: int) -> float:
    """KL(P || Q) of the first `bins` bins, with the outliers in the last one, against their `levels`-level form."""
    kept = p[:bins]
    reference = kept.copy()
    reference[-1] += p[bins:].sum()
    group = (np.arange(bins) * levels) // bins
    filled = (kept > 0).astype(np.float64)
    mass = np.bincount(group, kept, levels)
    width = np.bincount(group, filled, levels)
    q = filled * (mass / np.maximum(width, 1.0))[group]
    total_p, total_q = reference.sum(), q.sum()
    if total_p == 0.0 or total_q == 0.0:
        return float("inf")
    both = (reference > 0) & (q > 0)
    missing = reference[(reference > 0) & (q == 0)].sum() / total_p
    ratio = (reference[both] / total_p) / (q[both] / total_q)
    return float((reference[both] / total_p * np.log(ratio)).sum() + missing * 20.0)
