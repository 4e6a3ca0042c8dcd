"""A few samples that stand for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distances:
    """From every sample to the nearest chosen one."""

    mean: float
    largest: float


def k_center(features: Features, count: int, classes: NDArray[np.intp] | None = None) -> list[int]:
    """Positions, ascending, of samples of which one is near to every other.

    The first is the one nearest to the centre of all, each next one the farthest from those chosen. The largest distance to
    the nearest chosen one is then at most twice what any choice of as many leaves (Gonzalez 1985, "Clustering to minimize the
    maximum intercluster distance"; for data sets Sener and Savarese 2018, "Active learning for convolutional neural networks:
    a core-set approach", algorithm 1); within shares of classes that is not certain. Of equals the first is taken.

    Args:
        features: (samples, dimensions).
        count: 1 to samples.
        classes: the class of each, as a number from 0; each gets its share of the choice, and one at least where they suffice.
    """
    kinds = np.zeros(len(features), np.intp) if classes is None else classes
    left = _quotas(np.bincount(kinds), count)
    chosen = np.zeros(len(features), bool)
    order = -np.linalg.norm(features - features.mean(0), axis=1)
    nearest = np.full(len(features), np.inf)
    for _ in range(count):
        best = int(np.where(chosen | (left[kinds] == 0), -np.inf, order).argmax())
        chosen[best] = True
        left[kinds[best]] -= 1
        order = nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
    return [int(i) for i in np.flatnonzero(chosen)]


def distances_to(features: Features, chosen: Sequence[int]) -> Distances:
    """How far samples (rows) are from the nearest chosen one."""
    from scipy.spatial import cKDTree

    found, _ = cKDTree(features[list(chosen)]).query(features)
    return Distances(float(found.mean()), float(found.max()))


def standardized(blocks: Sequence[Features]) -> Features:
    """Features of several kinds side by side, each (samples, dimensions) with as much variance as the others: 1 together."""
    parts = []
    for block in blocks:
        centred = block - block.mean(0)
        size = float(np.sqrt((centred**2).sum(1).mean()))
        parts.append(centred / size if size > 0.0 else centred)
    return np.concatenate(parts, 1) / np.sqrt(len(parts))


def _quotas(held: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """How many of each class to choose: its share, one at least where `count` suffices, the rest by largest remainders."""
    quotas = np.minimum(held, 1) if count >= np.count_nonzero(held) else np.zeros_like(held)
    exact = count * held / held.sum()
    while quotas.sum() < count:
        quotas[np.where(quotas < held, exact - quotas, -np.inf).argmax()] += 1
    return quotas
