"""Strided values of a tensor's first samples, with the channel that each belongs to.

What the runtime would otherwise be asked in a second and third pass is computed from them: what ranges suit once channels are
divided, and how far quantization moves the mean of each channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import fake_quantize
from fewbit.core.histogram import Histogram
from fewbit.spec import QParams

_NOISE = 2.0  # standard errors of a mean that count as noise


class Excerpt:
    """Values of some samples, every `step`-th of each.

    channel_axis: of the tensor (None: one channel).
    """

    def __init__(self, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis
        self._parts: dict[tuple[tuple[int, ...], int, int], list[NDArray[np.float32]]] = {}

    def add(self, values: NDArray[Any], shape: tuple[int, ...], start: int = 0, step: int = 1) -> None:
        """The values x.reshape(-1)[start::step] of each of some samples x of a shape, (samples, n)."""
        if values.size:
            self._parts.setdefault((shape, start, step), []).append(np.asarray(values, np.float32))

    def histogram(self, factors: NDArray[np.float32]) -> Histogram:
        """Of the values divided by the factors of their channels, shape (channels,)."""
        histogram = Histogram()
        for values, channels, _ in self._by_channel():
            histogram.update(values / factors[channels])
        return histogram

    def shifts(self, params: QParams, factors: NDArray[np.float32] | None = None) -> NDArray[np.float64] | None:
        """E[q(x) - x] of every channel; None where the number of channels varies.

        Values that are clipped, and those that are rounded to zero because their channel is quiet, move the mean; the layers
        that read them can take it off their bias. The mean of a channel over so few values is mostly noise where rounding
        moves nothing, so it is drawn towards zero by its standard error σ over the samples, mean · max(0, 1 - (2σ / mean)²)
        (the positive-part estimator of James and Stein). Infinite values and NaN count as not moved.

        Args:
            params: of the tensor as a whole.
            factors: what the channels are divided by before they are quantized, shape (channels,).

        Returns:
            shape (channels,), in the units of the undivided value.
        """
        means: list[NDArray[np.float64]] = []
        for values, channels, size in self._by_channel():
            if means and means[0].shape != (size,):
                return None
            units = np.float32(1.0) if factors is None else factors[channels]
            scaled = np.where(np.isfinite(values), values, np.float32(0.0)) / units
            moved = (fake_quantize(scaled, params) - scaled) * units
            count = np.maximum(np.bincount(channels, minlength=size), 1)
            means += [np.bincount(channels, row, minlength=size) / count for row in moved]
        if not means:
            return None
        mean = np.mean(means, 0)
        noise = _NOISE * np.std(means, 0, ddof=1 if len(means) > 1 else 0) / np.sqrt(len(means))
        certain = np.abs(mean) > noise
        return np.where(certain, mean - noise**2 / np.where(certain, mean, 1.0), 0.0)

    def _by_channel(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp], int]]:
        """(values (samples, n), the channel of each of the n, how many channels there are), samples of one shape together."""
        for (shape, start, step), parts in self._parts.items():
            index = np.arange(start, prod(shape), step)
            size = 1
            if self.channel_axis is not None and shape:
                axis = self.channel_axis % len(shape)
                size = shape[axis]
                index = index // prod(shape[axis + 1 :]) % size
            else:
                index = np.zeros_like(index)
            yield np.concatenate(parts), index, size
