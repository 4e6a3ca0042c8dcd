"""What calibration keeps of a tensor: constant in size, mergeable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.histogram import Histogram

_EMA_MOMENTUM = 0.9  # of the moving-average range (Jacob et al. 2018, section 3.1, smooths over many batches)


class TensorStats:
    """Exact range and channel means, and a histogram of a strided sample of the values.

    channel_axis: the axis whose ranges and means are kept apart (None: one channel).

    Attributes: count (values seen), samples, minimum, maximum, channel_min, channel_max, channel_sum (float64, one a
    channel), channel_count, ema_min, ema_max, nonfinite_samples (samples in which some value was infinite or NaN),
    histogram.
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis
        self.count = 0
        self.samples = 0
        self.channel_count = 0
        self.channel_min: NDArray[np.float64] = np.zeros(0)
        self.channel_max: NDArray[np.float64] = np.zeros(0)
        self.channel_sum: NDArray[np.float64] = np.zeros(0)
        self.ema_min = self.ema_max = 0.0
        self.nonfinite_samples = 0
        self.histogram = Histogram()

    @property
    def minimum(self) -> float:
        return float(self.channel_min.min()) if self.channel_min.size else float("nan")

    @property
    def maximum(self) -> float:
        return float(self.channel_max.max()) if self.channel_max.size else float("nan")

    @property
    def channel_mean(self) -> NDArray[np.float64]:
        return self.channel_sum / max(self.channel_count, 1)

    def update(self, x: NDArray[Any], max_values: int = 8192) -> None:
        """One sample: x of any shape; at most `max_values` of its values, strided, enter the histogram."""
        if x.size == 0:
            return
        x = np.asarray(x, np.float32)
        axis = self.channel_axis if self.channel_axis is not None and x.ndim else None
        rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        self.update_reduced(rows.min(1)[None], rows.max(1)[None], rows.sum(1, dtype=np.float64)[None], rows.shape[1])
        self.histogram.update(strided(x, max_values))

    def update_reduced(
        self,
        low: NDArray[Any],
        high: NDArray[Any],
        total: NDArray[Any],
        values_per_channel: int,
    ) -> None:
        """Samples whose reductions were made elsewhere; the histogram is fed by itself.

        Args:
            low, high, total: minimum, maximum and sum of every channel, (samples, channels).
            values_per_channel: of each sample.
        """
        if self.channel_min.size and low.shape[1:] != self.channel_min.shape:
            self._forget_channels()
        if self.channel_axis is None and low.shape[1] > 1:
            values_per_channel *= low.shape[1]
            low, high, total = low.min(1, keepdims=True), high.max(1, keepdims=True), total.sum(1, keepdims=True)
        lows, highs = low.min(1).tolist(), high.max(1).tolist()
        if self.samples == 0:
            self.channel_min, self.channel_max = low.min(0).astype(np.float64), high.max(0).astype(np.float64)
            self.channel_sum = total.sum(0, dtype=np.float64)
            self.ema_min, self.ema_max = lows[0], highs[0]
        else:
            np.minimum(self.channel_min, low.min(0), out=self.channel_min)
            np.maximum(self.channel_max, high.max(0), out=self.channel_max)
            self.channel_sum += total.sum(0, dtype=np.float64)
        for least, most in zip(lows, highs, strict=True):  # the first sample moves nothing
            self.ema_min += (1 - _EMA_MOMENTUM) * (least - self.ema_min)
            self.ema_max += (1 - _EMA_MOMENTUM) * (most - self.ema_max)
        self.samples += len(low)
        self.channel_count += values_per_channel * len(low)
        self.count += values_per_channel * total.size

    def merge(self, other: TensorStats) -> None:
        """Add what the other statistics have seen."""
        if other.samples == 0:
            return
        if self.channel_min.size and self.channel_min.shape != other.channel_min.shape:
            self._forget_channels()
            other = other.copy()
            other._forget_channels()
        total = self.samples + other.samples
        if self.samples == 0:
            self.channel_min, self.channel_max = other.channel_min.copy(), other.channel_max.copy()
            self.channel_sum = other.channel_sum.copy()
            self.ema_min, self.ema_max = other.ema_min, other.ema_max
        else:
            self.channel_min = np.minimum(self.channel_min, other.channel_min)
            self.channel_max = np.maximum(self.channel_max, other.channel_max)
            self.channel_sum = self.channel_sum + other.channel_sum
            self.ema_min = (self.ema_min * self.samples + other.ema_min * other.samples) / total
            self.ema_max = (self.ema_max * self.samples + other.ema_max * other.samples) / total
        self.samples = total
        self.count += other.count
        self.channel_count += other.channel_count
        self.nonfinite_samples += other.nonfinite_samples
        self.histogram.merge(other.histogram)

    def divided(self, factors: NDArray[np.floating], histogram: Histogram) -> TensorStats:
        """The statistics of the channels divided by positive factors (channels,), with a histogram of what they become.

        The moving averages lie where they did between zero and the extremes: which channel made them is not known.
        """
        result = TensorStats(self.channel_axis)
        result.merge(self)
        result.channel_min, result.channel_max = self.channel_min / factors, self.channel_max / factors
        result.channel_sum = self.channel_sum / factors
        result.ema_min *= result.minimum / self.minimum if self.minimum else 1.0
        result.ema_max *= result.maximum / self.maximum if self.maximum else 1.0
        result.histogram = histogram
        return result

    def copy(self) -> TensorStats:
        result = TensorStats(self.channel_axis)
        result.merge(self)
        return result

    def _forget_channels(self) -> None:
        """The number of channels varies: go on with one channel."""
        self.channel_axis = None
        self.channel_count = self.count
        self.channel_min, self.channel_max = self.channel_min.min(keepdims=True), self.channel_max.max(keepdims=True)
        self.channel_sum = self.channel_sum.sum(keepdims=True)


def strided(x: NDArray[np.float32], max_values: int) -> NDArray[np.float32]:
    """At most about `max_values` of the values of x, evenly spread.

    The step shares no factor with the sizes of the axes, so that it visits every channel and column alike.
    """
    flat = x.reshape(-1)
    step = coprime_step(x.shape, flat.size, max_values)
    return flat[::step]


def coprime_step(shape: tuple[int, ...], size: int, max_values: int) -> int:
    """The smallest step that takes at most `max_values` of `size` values and shares no factor with any axis."""
    step = -(-size // max_values)
    if step <= 1:
        return 1
    product = np.lcm.reduce([n for n in shape if n > 1] or [1])
    while np.gcd(step, product) != 1:
        step += 1
    return int(step)
