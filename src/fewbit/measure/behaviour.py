"""What one number of accuracy hides: answers that changed, the class that lost most, and how far confidence can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Outputs, scores_and_labels
from fewbit.measure.paired.tango import mcnemar

LEAST = 30
"""Rows of a class below which it is not named: with fewer, one flip is more than 3 points."""

BINS = 15
"""Of confidence, as Guo et al. (2017) use in all their tables."""

SUM_TOLERANCE = 1e-3
"""How far the sum of float16 probabilities of a thousand classes is from 1."""


@dataclass(frozen=True, slots=True)
class ClassDrop:
    """A class, its rows, the share of them that each model gets right, and the chance of a change at least as uneven if
    answers of this class got worse as often as better (McNemar, times the number of classes that were looked at)."""

    label: int
    rows: int
    baseline: float
    value: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a quantized classifier differs from the float one, in shares of all rows.

    changed: rows with another answer; right_to_wrong and wrong_to_right are those of them that matter to accuracy, the
    others are wrong before and after. worst_class: that with the greatest drop, None where no class has enough rows.
    calibration_baseline, calibration: expected calibration error of the float and the quantized model, None where the
    outputs are neither probabilities nor scores.
    """

    rows: int
    changed: float
    right_to_wrong: float
    wrong_to_right: float
    worst_class: ClassDrop | None
    calibration_baseline: float | None
    calibration: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def behaviour(
    outputs: Sequence[Outputs], reference: Sequence[Outputs], labels: Labels, *, least: int = LEAST
) -> Behaviour | None:
    """Compare two classifiers row by row; None where these are no classifiers.

    Args:
        outputs, reference: of the quantized and the float model; the first output holds class scores [rows, classes].
        labels: class numbers, one a row.
        least: rows that a class must have to be named.
    """
    if not outputs or any(not _is_class(label) for label in labels):
        return None
    try:
        (scores, wanted), (real, _) = scores_and_labels(outputs, labels), scores_and_labels(reference, labels)
    except (DataError, ValueError):  # rows without labels, or of different lengths
        return None
    if scores.shape != real.shape or real.dtype.kind != "f" or real.shape[1] < 2:
        return None
    if wanted.min() < 0 or wanted.max() >= real.shape[1]:
        return None
    answers, before = scores.argmax(1), real.argmax(1)
    right, was_right = answers == wanted, before == wanted
    probabilities = as_probabilities(real, real), as_probabilities(scores, real)
    return Behaviour(
        len(wanted),
        float(np.mean(answers != before)),
        float(np.mean(was_right & ~right)),
        float(np.mean(~was_right & right)),
        _worst_class(right, was_right, wanted, least),
        *(None if p is None else calibration_error(p, wanted) for p in probabilities),
    )


def calibration_error(probabilities: NDArray[Any], labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Σ |B| / n · |accuracy(B) − confidence(B)| over equal bins ((m − 1) / M, m / M] of the confidence, that is the highest
    probability (Guo et al. 2017, "On calibration of modern neural networks", equation 3).

    Args:
        probabilities: [rows, classes]. labels: [rows].
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def as_probabilities(scores: NDArray[Any], real: NDArray[Any]) -> NDArray[np.float64] | None:
    """Probabilities as they are, scores after a softmax; the float model's rows [rows, classes] say which they are.

    None where they are neither (values from 0 to 1 that do not add up to 1, such as sigmoids), or not all are numbers.
    """
    from scipy.special import softmax

    if not np.isfinite(scores).all():
        return None
    values = scores.astype(np.float64)
    if real.min() >= 0 and real.max() <= 1 + SUM_TOLERANCE:
        return values if np.allclose(real.sum(1, dtype=np.float64), 1, rtol=0, atol=SUM_TOLERANCE) else None
    return np.asarray(softmax(values, 1))


def _is_class(label: Any) -> bool:
    return label is not None and np.asarray(label).dtype.kind in "iub"


def _worst_class(
    right: NDArray[np.bool_], was_right: NDArray[np.bool_], wanted: NDArray[np.int64], least: int
) -> ClassDrop | None:
    rows = np.bincount(wanted)
    named = np.flatnonzero(rows >= max(least, 1))
    if not len(named):
        return None
    lost = np.bincount(wanted, was_right.astype(np.float64) - right)
    worst = int(named[np.argmax(lost[named] / rows[named])])
    mine = wanted == worst
    worse, better = int((mine & was_right & ~right).sum()), int((mine & ~was_right & right).sum())
    chance = min(1.0, mcnemar(worse, better) * len(named))
    return ClassDrop(worst, int(rows[worst]), float(was_right[mine].mean()), float(right[mine].mean()), chance)
