"""The whole range that was seen."""

from __future__ import annotations

from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec


def range_(stats: TensorStats, spec: QSpec) -> tuple[float, float]:
    """(minimum, maximum), exact over all values."""
    return stats.minimum, stats.maximum
