"""Root mean squared error of the first output against its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def rmse(outputs: Sequence[Outputs], labels: Labels) -> float:
    """√(mean (output - label)²) over all values; a label has as many values as the first output."""
    total, count = 0.0, 0
    for (first, *_), label in zip(outputs, labels, strict=True):
        error = first.astype(np.float64).reshape(-1) - np.asarray(label, np.float64).reshape(-1)
        total += float(error @ error)
        count += error.size
    return float(np.sqrt(total / count))


RMSE = Metric("rmse", rmse, higher_is_better=False)
