"""Error rates of recognized text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.extras import load_extra
from fewbit.measure.metrics.metric import Labels, Metric, Outputs, mean_or_ratio

BLANK = 0  # the class that CTC uses for "nothing"


def decode_ctc(scores: np.ndarray[Any, Any]) -> list[int]:
    """Greedy CTC decoding of [positions, classes]: repeats are merged, then blanks (class 0) dropped."""
    best = scores.argmax(-1)
    keep = np.concatenate([[True], best[1:] != best[:-1]]) & (best != BLANK)
    return [int(c) for c in best[keep]]


def edits(outputs: Sequence[Outputs], labels: Labels, *, unit: str) -> NDArray[np.float64]:
    """Edits and the length of the reference of every sample, [samples, 2].

    A first output of strings is compared with string labels, by character (`cer`) or word (`wer`). One of class scores
    [1, positions, classes] is decoded by greedy CTC and compared with labels of class numbers.
    """
    distance = load_extra("rapidfuzz.distance", f"metric {unit}").Levenshtein.distance
    split: Callable[[str], Sequence[Any]] = str.split if unit == "wer" else list
    parts = []
    for (first, *_), label in zip(outputs, labels, strict=True):
        if first.dtype.kind in "OUS":
            got, wanted = split(str(first.reshape(-1)[0])), split(str(np.asarray(label).reshape(-1)[0]))
        elif unit == "wer":
            raise DataError(
                "metric wer needs a model that gives text; use cer, or a metric of your own, for class scores"
            )
        else:
            got = decode_ctc(first.reshape(-1, first.shape[-1]))
            wanted = [int(c) for c in np.asarray(label).reshape(-1)]
        parts.append((distance(got, wanted), len(wanted)))
    return np.array(parts, np.float64)


def error_rate(outputs: Sequence[Outputs], labels: Labels, *, unit: str) -> float:
    """Edits over the length of the references."""
    return mean_or_ratio(edits(outputs, labels, unit=unit))


CER, WER = (
    Metric(
        unit,
        partial(error_rate, unit=unit),
        higher_is_better=False,
        points=True,
        each=partial(edits, unit=unit),
        total=mean_or_ratio,
    )
    for unit in ("cer", "wer")
)
