"""The jackknife where the metric takes too long for resampling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fewbit.errors import DataError
from fewbit.measure.metrics import resolve_metric
from fewbit.measure.paired import paired_drop
from fewbit.measure.paired.bootstrap import resample
from fewbit.measure.paired.jackknife import jackknife


def test_of_a_mean_it_is_students_t() -> None:
    values = np.random.default_rng(1).standard_normal(25)
    found = jackknife(lambda i: float(values[i].mean()), 25, most=1000)
    assert found is not None and found.groups == 25
    assert found.error == pytest.approx(stats.sem(values))
    assert found.bound(0.95) == pytest.approx(values.mean() + stats.t.ppf(0.95, 24) * stats.sem(values))


def test_groups_tell_what_resamples_tell() -> None:
    random = np.random.default_rng(2)
    a = random.standard_normal(600)
    b = 0.6 * a + random.standard_normal(600)

    def correlation(i: NDArray[np.intp]) -> float:
        return float(stats.spearmanr(a[i], b[i]).statistic)

    slow, quick = jackknife(correlation, 600, most=40), resample(correlation, 600)
    assert slow is not None and slow.groups == 30
    for level in (0.05, 0.95):
        assert slow.bound(level) - slow.estimate == pytest.approx(quick.bound(level) - quick.estimate, rel=0.35)


def test_undefined_without_a_group() -> None:
    assert jackknife(lambda i: float("nan") if 3 not in i else 1.0, 40, most=20) is None
    with pytest.raises(DataError, match="1 sample tells nothing of chance"):
        jackknife(lambda i: 1.0, 1, most=20)


def test_a_slow_metric_is_called_a_few_times() -> None:
    calls = 0

    def slow(outputs: Sequence[Any], labels: Sequence[Any]) -> float:
        nonlocal calls
        calls += 1
        time.sleep(0.005)
        values = np.array([first[0] for (first,) in outputs])
        return float(np.quantile(values, [0.4, 0.5, 0.6]).mean())

    random = np.random.default_rng(0)
    real = random.standard_normal(300)
    given = real - 0.1 + 0.05 * random.standard_normal(300)
    outputs, reference = ([[np.array([v])] for v in values] for values in (given, real))
    drop = paired_drop(resolve_metric(slow), outputs, reference, [0] * 300, seconds=0.1)
    assert drop.method == "delete-a-group jackknife (Kott 2001, 20 groups)"
    assert drop.lower < drop.drop < drop.upper and drop.upper - drop.lower < 0.2
    assert calls < 100
