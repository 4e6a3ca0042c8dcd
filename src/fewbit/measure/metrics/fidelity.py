"""How close the outputs are to those of the float model; no labels needed."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.measure.compare import OutputComparison
from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def _compare(outputs: Sequence[Outputs], reference: Labels) -> OutputComparison:
    comparison = OutputComparison("output")
    for (first, *_), (real, *_) in zip(outputs, reference, strict=True):
        comparison.update(real, first)
    return comparison


def sqnr(outputs: Sequence[Outputs], reference: Labels) -> float:
    """10·log10(Σ float² / Σ (float - quantized)²) over all values of the first output, in dB."""
    return _compare(outputs, reference).sqnr


def cosine(outputs: Sequence[Outputs], reference: Labels) -> float:
    """Cosine of the angle between all values of the first output and those of the float model."""
    return _compare(outputs, reference).cosine


def agreement(outputs: Sequence[Outputs], reference: Labels) -> float:
    """The share of positions whose highest score is at the same place as in the float model."""
    value = _compare(outputs, reference).agreement
    return float("nan") if value is None else value


SQNR = Metric("sqnr", sqnr, against="baseline")
COSINE = Metric("cosine", cosine, against="baseline")
AGREEMENT = Metric("agreement", agreement, against="baseline", points=True)
