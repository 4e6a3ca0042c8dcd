from __future__ import annotations

from fewbit.core.ranges import RANGES
from fewbit.testing.ranges import RangeContract


class TestMinMax(RangeContract):
    estimator = RANGES["minmax"]


class TestPercentile(RangeContract):
    estimator = RANGES["percentile"]


class TestMse(RangeContract):
    estimator = RANGES["mse"]


class TestEntropy(RangeContract):
    estimator = RANGES["entropy"]


class TestMovingAverage(RangeContract):
    estimator = RANGES["moving_average"]
