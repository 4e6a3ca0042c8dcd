"""How close the outputs are to those of the float model; no labels needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.measure.compare import OutputComparison, same_answers
from fewbit.measure.metrics.metric import Labels, Metric, Outputs, mean_or_ratio


def _compare(outputs: Sequence[Outputs], reference: Labels) -> OutputComparison:
    comparison = OutputComparison("output")
    for (first, *_), (real, *_) in zip(outputs, reference, strict=True):
        comparison.update(real, first)
    return comparison


def _sums(outputs: Sequence[Outputs], reference: Labels) -> NDArray[np.float64]:
    """Σ float·quantized, Σ float² and Σ quantized² of every sample, [samples, 3]."""
    found = (_compare([o], [r]) for o, r in zip(outputs, reference, strict=True))
    return np.array([(c.product, c.signal, c.quantized) for c in found], np.float64)


def _angle(sums: NDArray[np.float64]) -> float:
    product, signal, quantized = sums.sum(0)
    length = float(np.sqrt(signal * quantized))
    return float(product) / length if length else 1.0


def _kept(outputs: Sequence[Outputs], reference: Labels) -> NDArray[np.float64] | None:
    """1 for every row that keeps its answer, else 0: [rows]. Of outputs with several answers a row, how many agree and
    how many there are, [samples, 2]: those of one sample depend on each other."""
    same = [same_answers(real, first) for (first, *_), (real, *_) in zip(outputs, reference, strict=True)]
    if any(s is None or not s.size for s in same):
        return None
    if any(s.size != len(s) for s in same if s is not None):
        return np.array([(s.sum(), s.size) for s in same if s is not None], np.float64)
    return np.concatenate([s.reshape(-1) for s in same if s is not None]).astype(np.float64)


def sqnr(outputs: Sequence[Outputs], reference: Labels) -> float:
    """10·log10(Σ float² / Σ (float - quantized)²) over all values of the first output, in dB."""
    return _compare(outputs, reference).sqnr


def cosine(outputs: Sequence[Outputs], reference: Labels) -> float:
    """Cosine of the angle between all values of the first output and those of the float model."""
    return _compare(outputs, reference).cosine


def agreement(outputs: Sequence[Outputs], reference: Labels) -> float:
    """The share of positions whose highest score is at the same place as in the float model; of integers, the share that
    is the same."""
    value = _compare(outputs, reference).agreement
    return float("nan") if value is None else value


SQNR = Metric("sqnr", sqnr, against="baseline")
COSINE = Metric("cosine", cosine, against="baseline", each=_sums, total=_angle)
AGREEMENT = Metric("agreement", agreement, against="baseline", points=True, each=_kept, total=mean_or_ratio)
