"""What a metric that gives one number does with its samples, found by trying.

Many metrics are a mean over samples, perhaps weighted by their sizes, perhaps of logarithms (a perplexity) or squares (an
RMSE). If one is, two or three calls a sample tell what each contributes, and statistics need not call it thousands of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Score = Callable[[Sequence[int] | NDArray[np.intp]], float]
"""The metric of the samples at these positions; NaN where it is not defined."""

FIRST = 8
"""Samples by which a metric that is no mean mostly shows, before all are scored one by one."""

EXACT = 1e-9
"""Relative difference within which a mean of float64 values is taken for the metric."""

WEIGHED = 1e-6
"""The same where weights were found from pairs of samples, which takes digits."""


class Mean(NamedTuple):
    """A mean by way of the plain one: back(mean of forward(values))."""

    name: str
    forward: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    back: Callable[[float], float]


ARITHMETIC = Mean("mean", lambda x: x, float)
MEANS = (
    ARITHMETIC,
    Mean("geometric mean", np.log, lambda x: float(np.exp(x))),
    Mean("root mean square", np.square, lambda x: float(np.sqrt(x))),
)


class Recognized(NamedTuple):
    """values: the metric of each sample alone. weights: what each counts, None where all count the same."""

    mean: Mean
    values: NDArray[np.float64]
    weights: NDArray[np.float64] | None

    def of(self, part: NDArray[np.intp]) -> float:
        """The mean of some samples, which the metric of them should be."""
        with np.errstate(all="ignore"):  # a value that has no logarithm gives no number, and then it is no such mean
            forward = self.mean.forward(self.values[part])
            weights = None if self.weights is None else self.weights[part]
            return float(self.mean.back(float(np.average(forward, weights=weights))))

    def parts(self) -> NDArray[np.float64]:
        """[units] whose mean is the metric, or [units, 2] of which `total` makes it."""
        if self.mean is ARITHMETIC and self.weights is None:
            return self.values
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        return np.stack([self.mean.forward(self.values) * weights, weights], 1)

    def total(self, parts: NDArray[np.float64]) -> float:
        """The metric from some rows of `parts`."""
        if parts.ndim == 1:
            return float(parts.mean())
        over, under = parts.sum(0)
        return float(self.mean.back(float(over / under))) if under else float("nan")


def recognize(score: Score, count: int, *, seed: int = 0) -> Recognized | None:
    """What mean of its samples a metric is; None where it is none of `MEANS`, weighted or not.

    It must be the metric of all samples, of the first eight and of two random halves.
    """
    values = _alone(score, np.arange(min(FIRST, count)), np.full(count, np.nan))
    if values is None:
        return None
    if not any(_holds(found, score, [np.arange(min(FIRST, count))]) for found in _candidates(score, values, FIRST)):
        return None
    values = _alone(score, np.arange(count), values)
    if values is None:
        return None
    halves = np.array_split(np.random.default_rng(seed).permutation(count), 2)
    parts = [np.arange(min(FIRST, count)), np.arange(count), *halves]
    return next((found for found in _candidates(score, values, count) if _holds(found, score, parts)), None)


def like(known: Recognized, score: Score, *, seed: int = 0) -> Recognized | None:
    """The same mean, by the same weights, of another model's values for the same samples; None where it is not the metric."""
    count = len(known.values)
    values = _alone(score, np.arange(count), np.full(count, np.nan))
    if values is None:
        return None
    found = known._replace(values=values)
    halves = np.array_split(np.random.default_rng(seed).permutation(count), 2)
    return found if _holds(found, score, [np.arange(count), *halves]) else None


def _alone(score: Score, part: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The values with those of the part filled in; None where one is not a number."""
    values = values.copy()
    for i in part[np.isnan(values[part])]:
        values[i] = score([i])
        if np.isnan(values[i]):
            return None
    return values


def _candidates(score: Score, values: NDArray[np.float64], count: int) -> list[Recognized]:
    """What the first `count` values could be the parts of, simple means first."""
    known = values[:count]
    plain = [Recognized(mean, known, None) for mean in MEANS]
    weighted = []
    for mean in MEANS:
        with np.errstate(all="ignore"):
            forward = mean.forward(known)
        weights = _weights(mean, forward, score) if np.isfinite(forward).all() else None
        if weights is not None:
            weighted.append(Recognized(mean, known, weights))
    return [*plain, *weighted]


def _weights(mean: Mean, forward: NDArray[np.float64], score: Score) -> NDArray[np.float64] | None:
    """What each sample counts beside the one of least value, from pairs: the mean of two lies nearer to the heavier.

    Every sample is paired with that of least or of greatest value, whichever is further from it.
    """
    low, high = int(forward.argmin()), int(forward.argmax())
    if forward[low] == forward[high]:
        return None

    def ratio(one: int, other: int) -> float:
        """The weight of one over that of the other."""
        with np.errstate(all="ignore"):
            pair = float(mean.forward(np.array([score([one, other])]))[0])
            return float((pair - forward[other]) / (forward[one] - pair)) if forward[one] != pair else np.inf

    weights = np.ones(len(forward))
    weights[high] = ratio(high, low)
    if not 0.0 < weights[high] < np.inf:
        return None
    for i in range(len(forward)):
        if i not in (low, high):
            far = low if forward[i] - forward[low] >= forward[high] - forward[i] else high
            weights[i] = ratio(i, far) * weights[far]
    return weights if np.isfinite(weights).all() and (weights > 0).all() else None


def _holds(found: Recognized, score: Score, parts: Sequence[NDArray[np.intp]]) -> bool:
    tolerance = EXACT if found.weights is None else WEIGHED
    return all(
        np.isclose(
            found.of(part), score(part), rtol=tolerance, atol=tolerance * float(np.abs(found.values[part]).max())
        )
        for part in parts
    )
