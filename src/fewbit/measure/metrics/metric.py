"""What a metric is, and helpers that several share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError

Outputs = list[NDArray[Any]]
Labels = Sequence[Any]
Each = Callable[[Sequence[Outputs], Labels], "NDArray[np.float64] | None"]
Total = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name, how it is computed, and how it is read.

    compute: (outputs of samples, their labels) -> value.
    against: what the labels are, those of the data or the outputs of the float model.
    points: the value is a share, and its changes are told in points (hundredths).
    each: what every independent unit of the data contributes, so that statistics need not score outputs again: [units],
        whose mean is the metric, or [units, k], of which `total` makes it. A unit is what was drawn on its own: a row of a
        batch, a text with all its tokens. None, or giving None: only `compute` knows.
    total: the metric from any selection of the rows of [units, k].
    """

    name: str
    compute: Callable[[Sequence[Outputs], Labels], float]
    higher_is_better: bool = True
    against: Literal["labels", "baseline"] = "labels"
    points: bool = False
    each: Each | None = None
    total: Total | None = None

    def __call__(self, outputs: Sequence[Outputs], labels: Labels) -> float:
        """The value.

        Raises:
            DataError: no labels, or the value is not a number.
        """
        if self.against == "labels" and any(label is None for label in labels):
            raise DataError(f"metric {self.name} needs labels, and the data has none")
        value = self.compute(outputs, labels)
        if np.isnan(value):
            raise DataError(f"metric {self.name} is not a number on these {len(outputs)} samples")
        return float(value)


def mean_or_ratio(parts: NDArray[np.float64]) -> float:
    """The mean of [units]; of [units, 2], the sum of the first column over that of the second (NaN over nothing)."""
    if parts.ndim == 1:
        return float(parts.mean())
    over, under = parts.sum(0)
    return float(over / under) if under else float("nan")


def scores_and_labels(outputs: Sequence[Outputs], labels: Labels) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(scores of all rows [rows, classes], their labels [rows]) from the first outputs of samples of any batch size."""
    rows, wanted = [], []
    for (first, *_), label in zip(outputs, labels, strict=True):
        score = first.reshape(first.shape[0], -1) if first.ndim > 1 else first.reshape(1, -1)
        targets = np.asarray(label).reshape(-1)
        if len(targets) != len(score):
            raise DataError(f"a sample has {len(score)} rows of output and {len(targets)} labels")
        rows.append(score)
        wanted.append(targets)
    return np.concatenate(rows), np.concatenate(wanted).astype(np.int64)
