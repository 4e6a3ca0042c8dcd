"""Area under the receiver operating characteristic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.errors import DataError
from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def auc(outputs: Sequence[Outputs], labels: Labels) -> float:
    """The chance that a positive sample (label 1) scores higher than a negative one (label 0), ties counted half.

    The score is the last value of the first output: the only one, or that of the positive class of two.
    """
    from scipy.stats import rankdata

    scores = np.array([first.reshape(-1)[-1] for first, *_ in outputs], np.float64)
    positive = np.array([int(np.asarray(label).reshape(-1)[0]) for label in labels]) == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise DataError("AUC needs samples of both labels, 0 and 1")
    return float((rankdata(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


AUC = Metric("auc", auc, points=True)
