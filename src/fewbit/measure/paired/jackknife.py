"""Confidence bounds of a statistic that takes too long to be resampled: it is found again without each group of samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fewbit.errors import DataError
from fewbit.measure.paired.bootstrap import Statistic

STEPS = (30, 20)
"""Numbers of groups, the most that the time allows: the standard error is known to 1 / √(2 · groups) of itself, which
Student's t makes up for."""


class Jackknifed(NamedTuple):
    """error: the standard error."""

    estimate: float
    error: float
    groups: int

    @property
    def spread(self) -> float:
        """The standard error."""
        return self.error

    @property
    def note(self) -> str:
        return f"delete-a-group jackknife (Kott 2001, {self.groups} groups)"

    def bound(self, level: float) -> float:
        """The value below which the statistic lies with confidence `level`, by Student's t of groups − 1."""
        from scipy.stats import t

        return self.estimate + float(t.ppf(level, self.groups - 1)) * self.error


def jackknife(statistic: Statistic, count: int, *, most: float, seed: int = 0) -> Jackknifed | None:
    """Delete one after another random group of units 0 … count − 1 (Kott 2001, "The Delete-a-Group Jackknife", equation 2).

    For statistics that are smooth in their samples (means, areas, correlations, precisions over many detections); a median of
    few samples is not.

    Args:
        statistic: of the units at some indices. most: groups that there is time for; `STEPS` rounds it down, 20 at least.

    Returns:
        None where the statistic is not defined without one of the groups.

    Raises:
        DataError: fewer than two units.
    """
    if count < 2:
        raise DataError(f"{count} sample tells nothing of chance: give two or more")
    groups = min(count, next((step for step in STEPS if step <= most), STEPS[-1]))
    parts = np.array_split(np.random.default_rng(seed).permutation(count), groups)
    everything = np.arange(count)
    values = np.array([statistic(np.delete(everything, part)) for part in parts])
    if np.isnan(values).any():
        return None
    error = math.sqrt((groups - 1) / groups * float(((values - values.mean()) ** 2).sum()))
    return Jackknifed(statistic(everything), error, groups)
