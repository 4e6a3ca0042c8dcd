"""Top-k accuracy of class scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs, scores_and_labels


def top_k(outputs: Sequence[Outputs], labels: Labels, *, k: int) -> float:
    """The share of samples whose label is among the k highest scores of the first output."""
    scores, wanted = scores_and_labels(outputs, labels)
    if wanted.min() < 0 or wanted.max() >= scores.shape[1]:
        raise DataError(
            f"labels go from {wanted.min()} to {wanted.max()}, but the model scores {scores.shape[1]} classes"
        )
    if k == 1:
        return float(np.mean(scores.argmax(1) == wanted))
    best = np.argpartition(-scores, min(k, scores.shape[1]) - 1, axis=1)[:, :k]
    return float(np.mean((best == wanted[:, None]).any(1)))


TOP1 = Metric("top1", partial(top_k, k=1), points=True)
TOP5 = Metric("top5", partial(top_k, k=5), points=True)
