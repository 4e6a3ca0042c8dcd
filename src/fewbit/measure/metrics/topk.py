"""Top-k accuracy of class scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs, scores_and_labels


def right_k(outputs: Sequence[Outputs], labels: Labels, *, k: int) -> NDArray[np.float64]:
    """1 for every row whose label is among the k highest scores of the first output, else 0: [rows]. One integer a row is
    the answer itself."""
    scores, wanted = scores_and_labels(outputs, labels)
    if scores.dtype.kind in "iu" and scores.shape[1] == 1:
        if k > 1:
            raise DataError(f"metric top{k} needs class scores, and the first output is the class itself: use top1")
        return np.asarray(scores[:, 0] == wanted, np.float64)
    if wanted.min() < 0 or wanted.max() >= scores.shape[1]:
        raise DataError(
            f"labels go from {wanted.min()} to {wanted.max()}, but the model scores {scores.shape[1]} classes"
        )
    if k == 1:
        return np.asarray(scores.argmax(1) == wanted, np.float64)
    best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
    return np.asarray((best == wanted[:, None]).any(1), np.float64)


def top_k(outputs: Sequence[Outputs], labels: Labels, *, k: int) -> float:
    """The share of samples whose label is among the k highest scores of the first output."""
    return float(right_k(outputs, labels, k=k).mean())


TOP1 = Metric("top1", partial(top_k, k=1), points=True, each=partial(right_k, k=1))
TOP5 = Metric("top5", partial(top_k, k=5), points=True, each=partial(right_k, k=5))
