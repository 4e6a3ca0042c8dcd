"""The moving average of each sample's extremes (Jacob et al. 2018, "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", section 3.1)."""

from __future__ import annotations

from fewbit.core.stats import TensorStats
from fewbit.spec import QSpec


def range_(stats: TensorStats, spec: QSpec) -> tuple[float, float]:
    """(smoothed minimum, smoothed maximum)."""
    return stats.ema_min, stats.ema_max
