"""Samples that occur twice: within a set, or in two that must not share any."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbit.data.check import Feed

BLOCKS = 64
"""Means that stand for a float input; inputs with no more values stand for themselves."""

NEAR = 1e-3
"""Distance below which samples differ by rounding alone: float16 keeps values to 2⁻¹¹ = 0.0005."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """exact: of names, dtypes, shapes and bytes. fixed: of names, shapes and of values that are no floats. means: of runs of
    the float values over their root mean square, and its logarithm."""

    exact: str
    fixed: str
    means: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shared:
    """Pairs of positions (i, j), ascending; a sample i is in one pair at most.

    exact: j is the first sample with the same bytes. near: i has no such sample, and j is the nearest of those that are the
    same but for rounding, as a copy in another float type; not crops, other sizes or other compression.
    """

    exact: tuple[tuple[int, int], ...]
    near: tuple[tuple[int, int], ...]


def fingerprints(feeds: Iterable[Feed]) -> list[Fingerprint]:
    """Of feeds that stream by (`DataSource.feeds()`): about two kilobytes each are kept."""
    return [_fingerprint(feed) for feed in feeds]


def overlap(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> Shared:
    """Which samples i of the first set are also in the second, as j."""
    held = _firsts(second)
    exact = [(i, held[p.exact]) for i, p in enumerate(first) if p.exact in held]
    others = [i for i, p in enumerate(first) if p.exact not in held]
    return Shared(tuple(exact), tuple(_near(first, others, second, list(held.values()), 1)))


def duplicates(prints: Sequence[Fingerprint]) -> Shared:
    """Which samples of a set are in it before: (i, j) with j before i. Of samples that are near, the later is i."""
    held = _firsts(prints)
    exact = [(i, held[p.exact]) for i, p in enumerate(prints) if held[p.exact] != i]
    once = list(held.values())
    near = {(max(pair), min(pair)) for pair in _near(prints, once, prints, once, 2)}  # the nearest of two is itself
    return Shared(tuple(exact), tuple(sorted(dict(sorted(near, reverse=True)).items())))


def _firsts(prints: Sequence[Fingerprint]) -> dict[str, int]:
    firsts: dict[str, int] = {}
    for i, print_ in enumerate(prints):
        firsts.setdefault(print_.exact, i)
    return firsts


def _fingerprint(feed: Feed) -> Fingerprint:
    exact, fixed, means = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16), []
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        floating = array.dtype.kind == "f"
        content = str(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
        for hashed in (exact, fixed):
            exactly = hashed is exact
            hashed.update(repr((name, array.dtype.str if exactly or not floating else "f", array.shape)).encode())
            hashed.update(content if exactly or not floating else b"")
        if floating:
            means.extend(_means(array))
    return Fingerprint(exact.hexdigest(), fixed.hexdigest(), tuple(means))


def _means(array: NDArray[np.floating]) -> list[float]:
    values = array.astype(np.float64).reshape(-1)
    size = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
    if size == 0.0:
        return [0.0] * (min(values.size, BLOCKS) + 1)
    starts = np.linspace(0, values.size, min(values.size, BLOCKS), endpoint=False).astype(int)
    sums = np.add.reduceat(values, starts) / np.diff([*starts, values.size])
    return [*(sums / size).tolist(), float(np.log(size))]


def _near(
    first: Sequence[Fingerprint], of: Sequence[int], second: Sequence[Fingerprint], among: Sequence[int], rank: int
) -> list[tuple[int, int]]:
    """Those `of` the first set with the neighbour of this rank `among` the second, where it is near."""
    from scipy.spatial import cKDTree

    pairs = []
    for fixed in {first[i].fixed for i in of if first[i].means}:
        mine, others = [i for i in of if first[i].fixed == fixed], [j for j in among if second[j].fixed == fixed]
        if len(others) < rank:
            continue
        tree = cKDTree(np.array([second[j].means for j in others]))
        points = np.array([first[i].means for i in mine])
        distances, places = tree.query(points, k=[rank], p=np.inf, distance_upper_bound=NEAR)
        for i, distance, place in zip(mine, distances[:, 0], places[:, 0], strict=True):
            if np.isfinite(distance):
                pairs.append((i, others[place]))
    return sorted(pairs)
