from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.histogram import Histogram
from fewbit.core.stats import TensorStats, coprime_step


def test_histogram_bins_are_bfloat16_numbers() -> None:
    histogram = Histogram()
    histogram.update(np.array([1.0, 1.005, 1.01, -2.0, 0.0, -0.0, np.nan, np.inf], np.float32))
    lower, upper, counts = histogram.support()
    assert dict(zip(lower.tolist(), counts.tolist(), strict=True))[1.0] == 2  # 1.0 and 1.005 < 1 + 1/128
    assert histogram.nonfinite == 2
    assert counts.sum() == 6
    assert lower[0] == -2.015625 and upper[0] == -2.0
    assert (np.diff(lower) >= 0).all()


@given(st.lists(st.floats(-1e4, 1e4, width=32, allow_subnormal=False), min_size=20, max_size=200))
@settings(max_examples=50, deadline=None)
def test_quantiles_are_within_a_bin(values: list[float]) -> None:
    x = np.array(values, np.float32)
    histogram = Histogram()
    histogram.update(x)
    wanted = float(np.quantile(x, 0.5, method="inverted_cdf"))
    assert abs(histogram.quantile(0.5) - wanted) <= abs(wanted) / 64 + 1e-30


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_merging_equals_seeing_all(seed: int, first: int, second: int) -> None:
    random = np.random.default_rng(seed)
    samples = [random.standard_normal((1, 3, 4, 5)).astype(np.float32) for _ in range(first + second)]
    whole, a, b = TensorStats(1), TensorStats(1), TensorStats(1)
    for i, sample in enumerate(samples):
        whole.update(sample)
        (a if i < first else b).update(sample)
    a.merge(b)
    assert (a.count, a.samples, a.minimum, a.maximum) == (whole.count, whole.samples, whole.minimum, whole.maximum)
    assert np.array_equal(a.channel_min, whole.channel_min)
    assert np.allclose(a.channel_mean, whole.channel_mean)
    assert np.array_equal(a.histogram.counts, whole.histogram.counts)


def test_channels_are_kept_apart() -> None:
    stats = TensorStats(1)
    stats.update(np.array([[[1.0, 2.0], [-3.0, 5.0]]], np.float32))
    assert stats.channel_min.tolist() == [1.0, -3.0]
    assert stats.channel_max.tolist() == [2.0, 5.0]
    assert stats.channel_mean.tolist() == [1.5, 1.0]


def test_the_stride_visits_every_channel() -> None:
    shape = (1, 32, 56, 56)
    size = int(np.prod(shape))
    step = coprime_step(shape, size, 8192)
    assert size / step <= 8192
    channels = (np.arange(0, size, step) // (56 * 56)) % 32
    counts = np.bincount(channels, minlength=32)
    assert counts.min() > 0.9 * counts.mean()
