"""Root mean squared error of the first output against its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.measure.metrics.metric import Labels, Metric, Outputs, mean_or_ratio


def errors(outputs: Sequence[Outputs], labels: Labels) -> NDArray[np.float64]:
    """Σ (output - label)² and the number of values of every sample, [samples, 2]; a label has as many values as the first
    output."""
    parts = []
    for (first, *_), label in zip(outputs, labels, strict=True):
        error = first.astype(np.float64).reshape(-1) - np.asarray(label, np.float64).reshape(-1)
        parts.append((float(error @ error), error.size))
    return np.array(parts, np.float64)


def root_ratio(parts: NDArray[np.float64]) -> float:
    """The root of the mean square, from [samples, 2]."""
    return float(np.sqrt(mean_or_ratio(parts)))


def rmse(outputs: Sequence[Outputs], labels: Labels) -> float:
    """√(mean (output - label)²) over all values."""
    return root_ratio(errors(outputs, labels))


RMSE = Metric("rmse", rmse, higher_is_better=False, each=errors, total=root_ratio)
