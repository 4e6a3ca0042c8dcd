"""Rank correlation of a score with its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.measure.metrics.metric import Labels, Metric, Outputs


def scored(outputs: Sequence[Outputs], labels: Labels) -> NDArray[np.float64]:
    """Score and label of every sample, [samples, 2]. A first output of two rows is a pair of embeddings, scored by its
    cosine; otherwise the score is its only value."""
    scores = []
    for first, *_ in outputs:
        if first.ndim == 2 and first.shape[0] == 2:
            a, b = first.astype(np.float64)
            scores.append(a @ b / max(np.sqrt(a @ a * (b @ b)), 1e-30))
        else:
            scores.append(float(first.reshape(-1)[0]))
    wanted = [float(np.asarray(label).reshape(-1)[0]) for label in labels]
    return np.stack([np.array(scores, np.float64), np.array(wanted)], 1)


def correlation(parts: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks of [samples, 2]; NaN where a column is constant."""
    from scipy.stats import rankdata

    a, b = rankdata(parts, axis=0).T
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt(a @ a * (b @ b)))
    return float(a @ b / spread) if spread else float("nan")


def spearman(outputs: Sequence[Outputs], labels: Labels) -> float:
    """Spearman's ρ between labels and scores."""
    return correlation(scored(outputs, labels))


SPEARMAN = Metric("spearman", spearman, points=True, each=scored, total=correlation)
