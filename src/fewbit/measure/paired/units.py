"""What each sample contributes to a metric."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbit.callables import call_user_code
from fewbit.errors import DataError, InputError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs
from fewbit.measure.paired.bootstrap import Indices, Statistic
from fewbit.measure.paired.recognized import ARITHMETIC, Score, like, recognize


def per_sample(
    metric: Metric, outputs: Sequence[Outputs], labels: Labels, *, seed: int = 0
) -> NDArray[np.float64] | None:
    """Values whose mean is the metric, [units]; None where it is no such mean.

    A metric with `each` says so itself: a unit is a row of a batch for `top1`. Of any other, every sample is scored alone:
    the mean must equal the metric of all samples, of the first eight and of two random halves. So a metric that weighs
    samples by their rows is no mean where the rows differ, nor one that is not a number, or fails, on a single sample.
    """
    if metric.each is not None:
        parts = metric.each(outputs, labels)
        if parts is not None:
            return parts if parts.ndim == 1 else None
    found = recognize(_score(metric, outputs, labels), len(outputs), seed=seed)
    return found.values if found is not None and found.mean is ARITHMETIC and found.weights is None else None


def _score(metric: Metric, outputs: Sequence[Outputs], labels: Labels) -> Score:
    return lambda indices: score_of(metric, outputs, labels, indices)


def takes_long(metric: Metric, outputs: Sequence[Outputs], labels: Labels, *, calls: int, seconds: float) -> bool:
    """Whether so many calls of a metric would take longer, and what samples contribute is not known without them."""
    if metric.each is not None and metric.each(outputs, labels) is not None:
        return False
    started = time.perf_counter()
    score_of(metric, outputs, labels, range(len(outputs)))
    if (time.perf_counter() - started) * calls <= seconds:
        return False
    return recognize(_score(metric, outputs, labels), len(outputs)) is None


def score_of(
    metric: Metric, outputs: Sequence[Outputs], labels: Labels, indices: Sequence[int] | NDArray[Any]
) -> float:
    """The metric of the samples at these indices, which may repeat; NaN where it is not defined."""
    chosen, wanted = [outputs[i] for i in indices], [labels[i] for i in indices]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of means over nothing and the like: the value is NaN, which says as much
        try:
            return float(call_user_code(lambda: metric.compute(chosen, wanted), metric.name))
        except InputError:
            return float("nan")


def total_of(metric: Metric, parts: NDArray[np.float64]) -> float:
    """The metric from some rows of what its `each` gave; NaN where it is not defined."""
    if parts.ndim == 1:
        return float(parts.mean())
    assert metric.total is not None, f"metric {metric.name} gives [units, k] and has no total"
    try:
        with np.errstate(all="ignore"):  # what overflows or divides by nothing comes back as no finite number
            return metric.total(parts)
    except InputError:
        return float("nan")


class PairedParts(NamedTuple):
    """The metric of both models on any units.

    units: how many. changed: those that differ. parts: what they contribute to the quantized and to the float model's, as
    [units] or [units, k], if that is known.
    """

    units: int
    quantized: Statistic
    floating: Statistic
    changed: Indices
    parts: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def paired_parts(
    metric: Metric, outputs: Sequence[Outputs], reference: Sequence[Outputs], labels: Labels, seed: int = 0
) -> PairedParts:
    """What both models' samples contribute: from `each`, else as it is recognized, else from the metric of any selection."""
    each = metric.each or (lambda *_: None)
    quantized, floating = each(outputs, labels), each(reference, labels)
    if quantized is None or floating is None:
        real = recognize(_score(metric, reference, labels), len(reference), seed=seed)
        given = None if real is None else like(real, _score(metric, outputs, labels), seed=seed)
        if real is not None and given is not None:
            floating, quantized = real.parts(), given.parts()
            metric = replace(metric, total=real.total)
    if quantized is None or floating is None:
        differ = [
            any(not np.array_equal(a, b) for a, b in zip(q, f, strict=True))
            for q, f in zip(outputs, reference, strict=True)
        ]
        return PairedParts(
            len(outputs),
            lambda i: score_of(metric, outputs, labels, i),
            lambda i: score_of(metric, reference, labels, i),
            np.flatnonzero(differ),
            None,
        )
    if quantized.shape != floating.shape:
        raise DataError(
            f"metric {metric.name}: the model gives {len(quantized)} rows and the float model {len(floating)}"
        )
    differs = quantized != floating
    changed = np.flatnonzero(differs if differs.ndim == 1 else differs.any(1))
    return PairedParts(len(quantized), _of(metric, quantized), _of(metric, floating), changed, (quantized, floating))


def _of(metric: Metric, parts: NDArray[np.float64]) -> Callable[[Indices], float]:
    return lambda i: total_of(metric, parts[i])
