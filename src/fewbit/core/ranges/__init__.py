"""How the range of an activation is chosen from its statistics: one file each, and one line in the table."""

from __future__ import annotations

from collections.abc import Callable

from fewbit.core.ranges import entropy, minmax, moving_average, mse, percentile
from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec

RangeEstimator = Callable[[TensorStats, QSpec], tuple[float, float]]

RANGES: dict[str, RangeEstimator] = {
    "minmax": minmax.range_,
    "percentile": percentile.range_,
    "mse": mse.range_,
    "entropy": entropy.range_,
    "moving_average": moving_average.range_,
}
