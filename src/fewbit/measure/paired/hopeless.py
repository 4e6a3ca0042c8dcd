"""Candidates that cannot pass any more are not run to the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.measure.metrics.metric import Labels, Metric, Outputs
from fewbit.measure.paired.bootstrap import pseudo_values
from fewbit.measure.paired.tango import score_bound
from fewbit.measure.paired.units import paired_parts

LEAST = 30
"""Units below which the mean of values that are not right or wrong is not judged: the usual bound of normal theory."""


GROUPS = 50
"""Of units, where the metric must be scored without them: Student's t of 49 degrees of freedom is near the normal."""


def unit_losses(
    metric: Metric, outputs: Sequence[Outputs], reference: Sequence[Outputs], labels: Labels
) -> NDArray[np.float64]:
    """How much worse each unit is, positive is worse; their mean is the drop. [units], and of a metric that is no mean
    [groups].

    Such a metric is scored without each of up to fifty groups of units; the pseudo-values of the jackknife (Tukey 1958)
    have the drop as their mean, nearly. Groups without which it is not defined count as the mean.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    pair = paired_parts(metric, outputs, reference, reference if metric.against == "baseline" else labels)
    if pair.parts is not None and pair.parts[0].ndim == 1:
        return np.asarray(sign * (pair.parts[1] - pair.parts[0]))
    groups = [np.arange(start, pair.units, GROUPS) for start in range(min(GROUPS, pair.units))]
    values = pseudo_values(lambda i: sign * (pair.floating(i) - pair.quantized(i)), pair.units, groups)
    known = ~np.isnan(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.0)


def spent(share: float, risk: float) -> float:
    """How much of the risk the looks until this share of the units may use: risk · ln(1 + (e − 1)·share), which spends it
    about evenly (Lan and DeMets 1983, their α₂*, after Pocock)."""
    return risk * math.log1p((math.e - 1) * min(share, 1.0))


def hopeless(
    losses: NDArray[np.float64], limit: float, *, planned: int, seen: int, before: int = 0, risk: float = 0.01
) -> bool:
    """Whether a candidate would fail: the lower bound of its drop, of the units so far, lies above the limit.

    A candidate whose drop is the limit or less is stopped with a chance of at most `risk` over all looks: each look takes
    the part of the risk that was not yet spent, and the parts add up whatever the looks have in common (Bonferroni).
    Losses of −1, 0 and 1 are judged by Tango's bound; others by Student's statistic t, or where it is less by its transform
    t + λt²/3 + λ²t³/27 + λ/6, λ the skewness over √n (Hall 1992, "On the removal of skewness by transformation"): rare
    improvements that were not seen yet make t too large.

    Args:
        losses: of the samples so far (`unit_losses`), in random order: classes one after another mislead.
        limit: of the drop, in the metric's own unit.
        planned, seen, before: samples in all, so far, and at the look before this one, 0 at the first.
    """
    from scipy.stats import t

    count = len(losses)
    level = spent(seen / planned, risk) - spent(before / planned, risk)
    if level <= 0 or count < 2 or losses.mean() <= limit:
        return False
    if bool(np.isin(losses, (-1.0, 0.0, 1.0)).all()):
        return -score_bound(int((losses < 0).sum()), int((losses > 0).sum()), count, 1 - level) > limit
    spread = float(losses.std(ddof=1))
    if count < LEAST or spread == 0:
        return False
    root = math.sqrt(count)
    student = float(losses.mean() - limit) / spread * root
    skew = float((((losses - losses.mean()) / spread) ** 3).mean()) / root
    straight = student + skew * student**2 / 3 + skew**2 * student**3 / 27 + skew / 6
    return bool(min(student, straight) > t.isf(level, count - 1))
