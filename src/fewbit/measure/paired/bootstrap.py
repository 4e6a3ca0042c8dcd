"""Confidence bounds by resampling, for statistics that are no means of samples as well."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError

Indices = NDArray[np.intp]
Statistic = Callable[[Indices], float]

STEPS = (5000, 2000, 1000, 500, 200)
"""Numbers of resamples, the most that the time allows. Steps, so that the clock seldom changes a result. Efron and
Tibshirani (1993, section 14.3) ask for 1000 or more for BCa; at 200 the tails are too thin for it."""

BCA_LEAST = 1000

SHARE = 0.75
"""Of the time, for resamples; the rest is for the jackknife of BCa."""

GROUPS = 200
"""Deletions of the jackknife: all samples one by one up to so many, then groups of samples. Sums over groups have the second
and third moments of the samples they hold, so the acceleration is that of single deletions, but for noise of about
0.65 / 200."""

TRIALS = 50
"""Resamples drawn to see whether the statistic is defined on all of them."""


class Resampled(NamedTuple):
    """What resampling tells of a statistic.

    distribution: its values on resamples, ascending. acceleration: of BCa, None for percentiles. note: how it was done.
    """

    estimate: float
    distribution: NDArray[np.float64]
    acceleration: float | None
    units: int
    note: str

    @property
    def spread(self) -> float:
        """How far resamples differ."""
        return float(np.ptp(self.distribution))

    def bound(self, level: float) -> float:
        """The value below which the statistic lies with confidence `level`: near 1 an upper bound, near 0 a lower one.

        BCa (Efron 1987, equation 2.3), or the percentile without acceleration. The normal quantile is widened to that of
        Student's t times √(n / (n − 1)), which undoes the narrowness of the bootstrap on few samples (Hesterberg 2015,
        section 3.4, "expanded percentile").
        """
        from scipy.stats import t

        z = float(t.ppf(level, self.units - 1)) * math.sqrt(self.units / (self.units - 1))
        return bca(self.distribution, self.estimate, self.acceleration, z)


def bca(distribution: NDArray[np.float64], estimate: float, acceleration: float | None, z: float) -> float:
    """The bound at the normal quantile z. Without acceleration: the percentile of z."""
    from scipy.special import ndtr, ndtri

    if acceleration is None:
        return float(np.quantile(distribution, ndtr(z)))
    below = (np.mean(distribution < estimate) + np.mean(distribution <= estimate)) / 2
    edge = 0.5 / len(distribution)
    bias = float(ndtri(np.clip(below, edge, 1 - edge)))
    moved = bias + z
    room = 1 - acceleration * moved
    level = float(ndtr(bias + moved / room)) if room > 0 else float(acceleration * moved > 0)
    return float(np.quantile(distribution, level))


def cost_of(statistic: Statistic, count: int) -> float:
    """Seconds that a call takes on all units."""
    started = time.perf_counter()
    statistic(np.arange(count))
    return max(time.perf_counter() - started, 1e-9)


def resample(
    statistic: Statistic, count: int, *, strata: NDArray[Any] | None = None, seed: int = 0, seconds: float = 60.0
) -> Resampled:
    """Resample units 0 … count − 1 with replacement.

    The same seed gives the same result; only where the time ends the drawing early can a slower machine draw fewer.

    Args:
        statistic: of the units at some indices, which repeat; NaN where it is not defined.
        strata: [count], a class of every unit. Where the statistic is not defined on some resamples, units are drawn
            within their classes; without classes, such resamples are drawn again.
        seconds: how long it may take.

    Raises:
        DataError: fewer than two units, or the statistic is not defined on most resamples.
    """
    if count < 2:
        raise DataError(f"{count} sample tells nothing of chance: give two or more")
    random = np.random.default_rng(seed)
    everything = np.arange(count)
    estimate = statistic(everything)
    cost = cost_of(statistic, count)
    notes = []
    groups: Sequence[Indices] = [everything]
    trial = [statistic(_draw(groups, random)) for _ in range(TRIALS)]
    if np.isnan(trial).any() and strata is not None:
        groups, trial = [np.flatnonzero(strata == kind) for kind in np.unique(strata)], []
        notes.append("drawn within classes")
    affordable = SHARE * seconds / cost
    size = next((step for step in STEPS if step <= affordable), STEPS[-1])
    values, undefined = [v for v in trial if not math.isnan(v)], sum(map(math.isnan, trial))
    while len(values) < size:
        value = statistic(_draw(groups, random))
        if not math.isnan(value):
            values.append(value)
            continue
        undefined += 1
        if undefined > size:
            raise DataError("the metric is not a number on most resamples of these samples: give more of each class")
    if undefined:
        notes.append(f"{undefined} drawn again as the metric was not a number")
    acceleration = None
    if size >= BCA_LEAST and GROUPS * cost <= (1 - SHARE) * seconds:
        acceleration = _acceleration(statistic, random.permutation(count))
    kind = "percentile" if acceleration is None else "BCa"
    note = f"paired bootstrap ({', '.join([kind, f'{size} resamples', *notes])})"
    return Resampled(estimate, np.sort(values), acceleration, count, note)


def _draw(groups: Sequence[Indices], random: np.random.Generator) -> Indices:
    return np.concatenate([group[random.integers(0, len(group), len(group))] for group in groups])


def _acceleration(statistic: Statistic, order: Indices) -> float | None:
    """Σ u³ / (6 (Σ u²)^1.5), u the mean of the jackknife less its values (Efron 1987, equation 6.6); None where undefined."""
    parts = np.array_split(order, min(len(order), GROUPS))
    held = np.array([statistic(np.delete(np.arange(len(order)), part)) for part in parts])
    if np.isnan(held).any():
        return None
    u = held.mean() - held
    spread = float((u**2).sum()) ** 1.5
    return float((u**3).sum()) / (6 * spread) if spread else 0.0


def pseudo_values(statistic: Statistic, count: int, groups: Iterable[Indices]) -> NDArray[np.float64]:
    """What each of n groups of equal size contributes: n·θ − (n − 1)·θ without the group (Tukey 1958), n = count / its size.
    Of a mean, the mean of the group."""
    everything = np.arange(count)
    whole = statistic(everything)
    values = []
    for group in groups:
        n = count / len(group)
        values.append(n * whole - (n - 1) * statistic(np.delete(everything, group)))
    return np.array(values)
