"""Resampling against scipy's, and what it does where a metric is not defined."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from scipy import stats

from fewbit.errors import DataError
from fewbit.measure.paired.bootstrap import Indices, bca, pseudo_values, resample

SKEWED = np.random.default_rng(3).exponential(size=60)


def mean(indices: Indices) -> float:
    return float(SKEWED[indices].mean())


def test_bca_is_that_of_scipy() -> None:
    theirs = stats.bootstrap((SKEWED,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(0))
    ours = resample(mean, 60)
    z = stats.norm.ppf(0.975)
    found = [bca(ours.distribution, ours.estimate, ours.acceleration, q) for q in (-z, z)]
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found == pytest.approx(list(theirs.confidence_interval), abs=0.05 * width)
    # of a mean the acceleration is the skewness over 6√n (Efron 1987, section 2)
    assert ours.acceleration == pytest.approx(stats.skew(SKEWED) / (6 * math.sqrt(60)))
    assert ours.note == "paired bootstrap (BCa, 5000 resamples)"


def test_bca_moves_bounds_away_from_the_bias() -> None:
    values = np.arange(101.0)
    share = 60.5 / 101  # of resamples below an estimate of 60, ties counted half
    moved = 2 * stats.norm.ppf(share)
    assert bca(values, 60.0, 0.0, 0.0) == pytest.approx(100 * stats.norm.cdf(moved))
    assert bca(values, 60.0, None, 0.0) == 50.0
    half = moved / 2
    wanted = 100 * stats.norm.cdf(half + (half + 1) / (1 - 0.1 * (half + 1)))
    assert bca(values, 60.0, 0.1, 1.0) == pytest.approx(wanted)


def test_acceleration_of_many_samples_comes_from_groups() -> None:
    values = np.random.default_rng(0).exponential(size=3000)
    found = resample(lambda i: float(values[i].mean()), 3000)
    assert found.acceleration == pytest.approx(stats.skew(values) / (6 * math.sqrt(3000)), abs=0.01)


def test_bounds_are_those_of_students_t_for_few_normal_samples() -> None:
    values = stats.norm.ppf((np.arange(8) + 0.5) / 8)
    found = resample(lambda i: float(values[i].mean()), 8)
    wanted = stats.t.ppf(0.95, 7) * values.std(ddof=1) / math.sqrt(8)
    assert found.bound(0.95) == pytest.approx(wanted, rel=0.08)
    assert found.bound(0.05) == pytest.approx(-wanted, rel=0.08)


def test_the_same_seed_gives_the_same_bounds() -> None:
    first, again, other = (resample(mean, 60, seed=seed) for seed in (1, 1, 2))
    assert first.bound(0.95) == again.bound(0.95) != other.bound(0.95)


def test_slow_metrics_get_fewer_resamples_and_percentiles() -> None:
    def slow(indices: Indices) -> float:
        time.sleep(0.002)
        return mean(indices)

    found = resample(slow, 60, seconds=0.5)
    assert found.acceleration is None and found.note == "paired bootstrap (percentile, 200 resamples)"
    assert found.bound(0.05) < found.estimate < found.bound(0.95)


def test_classes_keep_a_metric_defined() -> None:
    labels = np.array([1, 1] + [0] * 40)

    def both(indices: Indices) -> float:
        chosen = labels[indices]
        return float(indices.mean()) if 0 < chosen.sum() < len(chosen) else math.nan

    assert "drawn within classes" in resample(both, 42, strata=labels).note
    note = resample(both, 42).note
    assert "drawn again as the metric was not a number" in note
    with pytest.raises(DataError, match="most resamples"):
        resample(lambda i: math.nan if len(set(i)) < 20 else 1.0, 20)
    with pytest.raises(DataError, match="1 sample tells nothing"):
        resample(mean, 1)


def test_pseudo_values_of_a_mean_are_its_values() -> None:
    np.testing.assert_allclose(pseudo_values(mean, 60, np.array([[0], [7]])), SKEWED[[0, 7]])
    np.testing.assert_allclose(pseudo_values(mean, 60, [np.array([0, 7, 9])]), SKEWED[[0, 7, 9]].mean())
