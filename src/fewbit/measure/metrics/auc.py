"""Area under the receiver operating characteristic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def scored(outputs: Sequence[Outputs], labels: Labels) -> NDArray[np.float64]:
    """Score and label of every sample, [samples, 2]. The score is the last value of the first output: the only one, or
    that of the positive class of two."""
    scores = [float(first.reshape(-1)[-1]) for first, *_ in outputs]
    wanted = [int(np.asarray(label).reshape(-1)[0]) for label in labels]
    return np.stack([np.array(scores), np.array(wanted, np.float64)], 1)


def area(parts: NDArray[np.float64]) -> float:
    """The area from scores and labels, [samples, 2]: by ranks, ties counted half."""
    from scipy.stats import rankdata

    scores, positive = parts[:, 0], parts[:, 1] == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise DataError("AUC needs samples of both labels, 0 and 1")
    return float((rankdata(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def auc(outputs: Sequence[Outputs], labels: Labels) -> float:
    """The chance that a positive sample (label 1) scores higher than a negative one (label 0), ties counted half."""
    return area(scored(outputs, labels))


AUC = Metric("auc", auc, points=True, each=scored, total=area)
