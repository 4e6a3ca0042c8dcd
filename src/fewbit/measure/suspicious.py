"""Do the labels belong to the samples at all? A permutation test."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.measure.metrics.metric import Labels, Metric, Outputs
from fewbit.measure.paired.units import score_of

PERMUTATIONS = (99, 100)
"""Shuffles, in two portions: where none of the first is as good as the labels, the chance is at most 1 / 100, and the others
would only cost time. Labels without a meaning pass with a chance of 0.01 there, and of 0.0025 more at the second look."""

CHANCE = 0.01

MOST, FEWEST = 1000, 50
"""Samples that are scored: a model that needs more than a thousand to beat shuffled labels is of no use either way."""

_FEWEST_KNOWN = 100  # shuffles whose metric is a number; fewer say nothing


def suspicious(
    metric: Metric, outputs: Sequence[Outputs], labels: Labels, *, seed: int = 0, seconds: float = 20.0
) -> str | None:
    """Why the labels look wrong; None where they do not, or where that cannot be told.

    The metric of the float model is compared with that of up to 199 shuffles of the labels, within samples of the same
    shapes. The chance (1 + shuffles at least as good) / (1 + shuffles) (Phipson and Smyth 2010) must be at most 0.01; it
    is looked at twice, so that a good model is done after half of them (Besag and Clifford 1991).

    Args:
        outputs, labels: of the float model.
        seconds: about how long it may take: fewer samples are taken where the metric is slow, 50 at least.
    """
    if metric.against == "baseline" or len(outputs) != len(labels) or any(label is None for label in labels):
        return None
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(outputs))[:MOST]
    while True:
        started = time.perf_counter()
        seen = score_of(metric, outputs, labels, chosen)
        if (time.perf_counter() - started) * sum(PERMUTATIONS) <= seconds or len(chosen) <= FEWEST:
            break
        chosen = chosen[: max(len(chosen) // 2, FEWEST)]
    groups = _alike(outputs, labels, chosen)
    if np.isnan(seen) or all(len(group) < 2 for group in groups):
        return None
    values = np.empty(0)
    for count in PERMUTATIONS:
        values = np.append(values, [_shuffled(metric, outputs, labels, groups, random) for _ in range(count)])
        known = values[~np.isnan(values)]
        as_good = known >= seen if metric.higher_is_better else known <= seen
        chance = (1 + int(as_good.sum())) / (1 + len(known))
        if chance <= CHANCE:
            return None
    if len(known) < _FEWEST_KNOWN:
        return None
    if np.all(known == seen):
        return f"metric {metric.name} is {seen:.4g} whichever sample has which label: it says nothing of the model"
    if not as_good.all() or np.any(values == seen):
        why = "the labels do not belong to the samples, or these are not prepared as the model expects"
    else:
        better = "lower" if metric.higher_is_better else "higher"
        why = f"the labels are wrong, or {better} is better and the metric does not say so (attribute higher_is_better)"
    return (
        f"metric {metric.name} of the float model is {seen:.4g}, and {known.mean():.4g} with the labels shuffled "
        f"(p = {chance:.2g} on {len(chosen)} samples): {why}"
    )


def _alike(outputs: Sequence[Outputs], labels: Labels, chosen: NDArray[np.intp]) -> list[list[int]]:
    """Samples whose labels can be exchanged: same shapes of the first output and of the label."""
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for i in chosen:
        groups.setdefault((outputs[i][0].shape, np.shape(labels[i])), []).append(int(i))
    return list(groups.values())


def _shuffled(
    metric: Metric,
    outputs: Sequence[Outputs],
    labels: Labels,
    groups: Sequence[Sequence[int]],
    random: np.random.Generator,
) -> float:
    order = [i for group in groups for i in group]
    other = [group[j] for group in groups for j in random.permutation(len(group))]
    return score_of(metric, [outputs[i] for i in order], [labels[i] for i in other], range(len(order)))
