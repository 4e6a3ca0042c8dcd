"""A few samples that stand for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]

MOST = 4096
"""Samples that are chosen from: all distances between them take 128 MB."""


@dataclass(frozen=True, slots=True)
class Distances:
    """From every sample to the nearest chosen one."""

    mean: float
    largest: float


def facility_location(
    features: Features, count: int, classes: NDArray[np.intp] | None = None, *, seed: int = 0
) -> list[int]:
    """Positions, ascending, of samples to which all others are near: the greedy choice for the least sum of distances.

    Each sample chosen is the one that shortens that sum most (Nemhauser, Wolsey and Fisher 1978, "An analysis of
    approximations for maximizing submodular set functions", section 4), within shares of the classes (Fisher, Nemhauser and
    Wolsey 1978, part II: half of the optimum at least). Of equals the first is taken.

    Args:
        features: (samples, dimensions).
        count: 1 to samples.
        classes: the class of each, as a number from 0; each gets its share of the choice, and one at least where they suffice.
        seed: of the 4096 samples that are looked at where there are more.
    """
    from scipy.spatial.distance import cdist

    among = np.arange(len(features))
    if len(among) > max(MOST, count):
        among = np.sort(np.random.default_rng(seed).choice(among, max(MOST, count), replace=False))
    kinds = np.zeros(len(among), np.intp) if classes is None else classes[among]
    left = _quotas(np.bincount(kinds), count)
    distances = cdist(features[among], features[among])
    nearest = np.full(len(among), distances.max())  # as if one sample were as far from all as any is
    chosen = np.zeros(len(among), bool)
    for _ in range(count):
        gains = np.maximum(nearest[:, None] - distances, 0.0).sum(0)
        gains[chosen | (left[kinds] == 0)] = -1.0
        best = int(gains.argmax())
        chosen[best] = True
        left[kinds[best]] -= 1
        nearest = np.minimum(nearest, distances[:, best])
    return [int(i) for i in among[chosen]]


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
