"""The range that leaves out a share of the values at each end (McKinstry et al. 2019, "Discovering Low-Precision Networks
Close to Full-Precision Networks for Efficient Inference", section 3)."""

from __future__ import annotations

from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec


def range_(stats: TensorStats, spec: QSpec, *, outside: float = 1e-5) -> tuple[float, float]:
    """The quantiles `outside` and 1 - `outside`, within the exact extremes."""
    ends = (stats.histogram.quantile(outside), stats.histogram.quantile(1.0 - outside))
    low, high = (min(max(end, stats.minimum), stats.maximum) for end in ends)
    return low, high
