"""How much worse a quantized model is than the float one on the same samples, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError, RecipeError
from fewbit.measure.classes import classes_of
from fewbit.measure.compare import finite_or_none
from fewbit.measure.metrics.metric import Labels, Metric, Outputs
from fewbit.measure.paired.bootstrap import SHARE, STEPS, Resampled, Statistic, cost_of, pseudo_values, resample
from fewbit.measure.paired.jackknife import Jackknifed, jackknife
from fewbit.measure.paired.tango import lower_bound, mcnemar, score_bound, share_bound, upper_bound
from fewbit.measure.paired.units import PairedParts, paired_parts

RARE = 10
"""Fewer changed units than this, and a bootstrap does not show how bad the next change would be."""

PROBED = 200
"""Units whose influence on a metric is tried where none changed."""


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse the quantized model is, in the metric's own unit; positive is worse.

    baseline, value: the metric of the float and the quantized model. low, high: the two-sided interval of the drop at
    `confidence`. lower, upper: its one-sided bounds, each at `confidence`; verdicts use them. samples: units that were
    compared: rows where rows are independent, else samples. method: how the bounds were found. changed: units that the two
    models answer differently. flips_worse, flips_better, p_value: of right/wrong answers, those lost and won, and the exact
    test of McNemar; else None.
    """

    metric: str
    points: bool
    baseline: float
    value: float
    drop: float
    low: float
    high: float
    lower: float
    upper: float
    confidence: float
    samples: int
    method: str
    changed: int
    flips_worse: int | None = None
    flips_better: int | None = None
    p_value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: finite_or_none(v) if isinstance(v, float) else v for name, v in found.items()}


def paired_drop(
    metric: Metric,
    outputs: Sequence[Outputs],
    reference: Sequence[Outputs],
    labels: Labels,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    seconds: float = 60.0,
) -> Drop:
    """The drop of a metric from the float to the quantized model, paired by sample.

    Right/wrong answers: Tango's score interval. Other means, and metrics that are no means: a paired bootstrap, or where
    that takes too long the jackknife.

    Args:
        outputs, reference: of the quantized and the float model, sample by sample.
        labels: what the metric needs; not read by metrics that compare with the float model.
        seconds: about how long resampling may take; where the metric is slow, fewer resamples are drawn, and where there is
            no time for 200 the jackknife does with 20 to 30 calls for each model.

    Raises:
        DataError: other numbers of samples, fewer than two, or the metric is not a number.
        RecipeError: the metric of the float model itself is infinite (`sqnr`), or confidence is no share above a half.
    """
    if not 0.5 < confidence < 1:
        raise RecipeError(f"confidence must lie between 0.5 and 1, given {confidence}; 0.95 is usual")
    if len(outputs) != len(reference):
        raise DataError(f"{len(outputs)} samples of the model and {len(reference)} of the float model cannot be paired")
    if metric.against == "baseline":
        labels = reference
    value, baseline = metric(outputs, labels), metric(reference, labels)
    if not math.isfinite(baseline):
        raise RecipeError(
            f"metric {metric.name} of the float model is {baseline}, and nothing can drop from it: use another"
        )
    sign = 1.0 if metric.higher_is_better else -1.0
    if not math.isfinite(value):
        lost = sign * (baseline - value)
        how = "none: the metric of the model is infinite"
        bounds = (lost, lost, lost, lost)
        return Drop(
            metric.name, metric.points, baseline, value, lost, *bounds, confidence, len(outputs), how, len(outputs)
        )
    pair = paired_parts(metric, outputs, reference, labels, seed)
    classed = metric.against == "labels" and pair.units == len(labels)
    if pair.parts is not None and pair.parts[0].ndim == 1:
        loss = sign * (pair.parts[1] - pair.parts[0])
        if all(bool(np.isin(part, (0.0, 1.0)).all()) for part in pair.parts):
            return _right_or_wrong(metric, baseline, value, loss, confidence)
    found = _sampled(
        lambda i: sign * (pair.floating(i) - pair.quantized(i)),
        pair.units,
        strata=classes_of(labels) if classed else None,
        seed=seed,
        seconds=seconds,
    )
    return _bounded(metric, baseline, value, sign, pair, found, confidence)


def unbounded_drop(
    metric: Metric,
    outputs: Sequence[Outputs],
    reference: Sequence[Outputs],
    labels: Labels,
    *,
    confidence: float = 0.95,
) -> Drop:
    """The drop alone, without bounds: for a search among candidates by a metric that takes long, where nothing is claimed.

    Raises:
        DataError: the metric is not a number.
    """
    if metric.against == "baseline":
        labels = reference
    value, baseline = metric(outputs, labels), metric(reference, labels)
    lost = (baseline - value) if metric.higher_is_better else (value - baseline)
    ends = (-math.inf, math.inf)
    how = "no bounds: the metric takes long"
    return Drop(
        metric.name,
        metric.points,
        baseline,
        value,
        lost,
        *ends,
        *ends,
        confidence,
        len(outputs),
        how,
        len(outputs),
    )


def _right_or_wrong(
    metric: Metric, baseline: float, value: float, loss: NDArray[np.float64], confidence: float
) -> Drop:
    worse, better, count = int((loss > 0).sum()), int((loss < 0).sum()), len(loss)
    if count < 2:
        raise DataError(f"{count} sample tells nothing of chance: give two or more")
    both = (1 + confidence) / 2
    return Drop(
        metric.name,
        metric.points,
        baseline,
        value,
        (worse - better) / count,
        -score_bound(better, worse, count, both),
        score_bound(worse, better, count, both),
        lower_bound(worse, better, count, confidence),
        upper_bound(worse, better, count, confidence),
        confidence,
        count,
        "score interval of paired shares (Tango 1998)",
        worse + better,
        worse,
        better,
        mcnemar(worse, better),
    )


def _sampled(
    statistic: Statistic, units: int, *, strata: NDArray[Any] | None, seed: int, seconds: float
) -> Resampled | Jackknifed:
    """Resamples, where there is time for the fewest; else the jackknife."""
    affordable = SHARE * seconds / cost_of(statistic, units)
    found = jackknife(statistic, units, most=affordable, seed=seed) if affordable < STEPS[-1] else None
    return found or resample(statistic, units, strata=strata, seed=seed, seconds=seconds)


def _bounded(
    metric: Metric,
    baseline: float,
    value: float,
    sign: float,
    pair: PairedParts,
    found: Resampled | Jackknifed,
    confidence: float,
) -> Drop:
    """The bounds of sampling, and where few units changed, the share that may change times what a change costs."""
    scale = max(abs(baseline), abs(value))
    moved = found.spread > 1e-12 * scale  # else rounding is all that they differ by
    both = (1 + confidence) / 2
    low, lower, upper, high = (found.bound(level) for level in (1 - both, 1 - confidence, confidence, both))
    changed, method = len(pair.changed) if moved else 0, found.note
    if changed < RARE:
        cost = _cost(metric, sign, pair, changed)
        upper = max(upper, share_bound(changed, pair.units, confidence) * cost)
        high = max(high, share_bound(changed, pair.units, both) * cost)
        method += f", no less than the share that may change (Clopper and Pearson 1934) at a cost of {cost:.4g} each"
        if not changed:
            low, lower = min(low, -high), min(lower, -upper)
    return Drop(
        metric.name,
        metric.points,
        baseline,
        value,
        found.estimate,
        low,
        high,
        lower,
        upper,
        confidence,
        pair.units,
        method,
        changed,
    )


def _cost(metric: Metric, sign: float, pair: PairedParts, changed: int) -> float:
    """What a change costs, where c of them were seen: the next is dearer than all of them with a chance of 1 / (c + 1), as
    their order tells nothing, and then costs as much as the best unit less the worst: (c · dearest + spread) / (c + 1).

    The spread is that of the values seen, one at least where the metric is a share; infinite where it tells nothing.
    """
    dearest = 0.0
    if changed:
        values = pseudo_values(
            lambda i: sign * (pair.floating(i) - pair.quantized(i)), pair.units, pair.changed[:, None]
        )
        dearest = float(np.nanmax(np.abs(values)))
    if pair.parts is not None and pair.parts[1].ndim == 1:
        values = np.concatenate(pair.parts)
    else:
        units = np.unique(np.linspace(0, pair.units - 1, min(pair.units, PROBED)).astype(np.intp))
        values = pseudo_values(pair.floating, pair.units, units[:, None])
    spread = max(float(np.nanmax(values) - np.nanmin(values)), dearest, 1.0 if metric.points else 0.0)
    return (changed * dearest + (spread or math.inf)) / (changed + 1)
