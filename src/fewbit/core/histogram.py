"""A histogram whose bins are the bfloat16 numbers: free of any range, mergeable, constant in size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BINS = 1 << 16
_SIGN = 1 << 15
_FIRST_NAN_OR_INF = 0x7F80


class Histogram:
    """Counts of float32 values by the top 16 bits of their representation (sign, exponent, 7 bits of mantissa).

    A bin spans 1/128 of the power of two that it is in. Exact zeros fall into a bin of their own together with values
    below 2^-133. NaN and infinities are counted apart.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)  # made by the first update

    def update(self, x: NDArray[np.float32]) -> None:
        """Count the values of x (float32, any shape)."""
        if x.size == 0:
            return
        bits = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint16)[1::2]  # little endian: the upper half
        counts = np.bincount(bits, minlength=_BINS)
        if not self.counts.size:
            self.counts = counts
        else:
            self.counts += counts

    def merge(self, other: Histogram) -> None:
        """Count what the other histogram counted."""
        if other.counts.size:
            self.counts = other.counts.copy() if not self.counts.size else self.counts + other.counts

    @property
    def nonfinite(self) -> int:
        if not self.counts.size:
            return 0
        return int(self.counts[_FIRST_NAN_OR_INF:_SIGN].sum() + self.counts[_SIGN + _FIRST_NAN_OR_INF :].sum())

    def support(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """(lower edge, upper edge, count) of the finite bins that hold something, by increasing value."""
        if not self.counts.size:
            empty = np.zeros(0)
            return empty, empty, np.zeros(0, np.int64)
        used = np.flatnonzero(self.counts)
        used = used[(used & (_SIGN - 1)) < _FIRST_NAN_OR_INF]
        near = _edge(used)
        far = np.where((used & (_SIGN - 1)) == 0, near, _edge(used + 1))  # the bin of zero is a point
        order = np.argsort(near, kind="stable")
        return np.minimum(near, far)[order], np.maximum(near, far)[order], self.counts[used][order]

    def quantile(self, q: float) -> float:
        """The value below which a share q of the finite values lies, linear within a bin."""
        lower, upper, counts = self.support()
        if not counts.size:
            return float("nan")
        cumulative = np.cumsum(counts)
        wanted = q * cumulative[-1]
        i = min(int(np.searchsorted(cumulative, wanted)), counts.size - 1)
        inside = (wanted - (cumulative[i] - counts[i])) / counts[i]
        return float(lower[i] + (upper[i] - lower[i]) * min(max(inside, 0.0), 1.0))


def _edge(index: NDArray[np.int64]) -> NDArray[np.float64]:
    """The float whose top 16 bits are the index."""
    return (index.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
