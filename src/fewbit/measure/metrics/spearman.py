"""Rank correlation of a score with its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def spearman(outputs: Sequence[Outputs], labels: Labels) -> float:
    """Spearman's ρ between labels and scores. A first output of two rows is a pair of embeddings, scored by its cosine;
    otherwise the score is its only value."""
    from scipy.stats import spearmanr

    scores = []
    for first, *_ in outputs:
        if first.ndim == 2 and first.shape[0] == 2:
            a, b = first.astype(np.float64)
            scores.append(a @ b / max(np.sqrt(a @ a * (b @ b)), 1e-30))
        else:
            scores.append(float(first.reshape(-1)[0]))
    return float(spearmanr(scores, [float(np.asarray(label).reshape(-1)[0]) for label in labels]).statistic)


SPEARMAN = Metric("spearman", spearman, points=True)
