"""Samples shared out among uses that must not see each other's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError
from fewbit.measure.classes import classes_of

Indices = NDArray[np.intp]


def split(labels: Sequence[Any] | None, count: int, shares: Sequence[float], seed: int = 0) -> list[Indices]:
    """Disjoint parts of samples 0 … count − 1, each in ascending order; the same for the same seed.

    Where labels are classes, every class has its share in every part, to within one sample.

    Args:
        labels: one a sample, or None.
        shares: of the samples, at most 1 together; a part has round(share · count) of them, and all of them are used where
            the shares add up to 1.

    Raises:
        DataError: a share that is not positive, shares above 1 together, or a part without samples.
    """
    if any(not share > 0 for share in shares) or sum(shares) > 1 + 1e-9:
        raise DataError(f"shares must be above 0 and add up to 1 at most, given {', '.join(map(str, shares))}")
    if labels is not None and len(labels) != count:
        raise DataError(f"{count} samples have {len(labels)} labels; give one a sample")
    sizes = _sizes(count, shares)
    if 0 in sizes:
        raise DataError(
            f"{count} samples do not suffice for shares of {', '.join(map(str, shares))}: give more samples"
        )
    random = np.random.default_rng(seed)
    kinds = None if labels is None else classes_of(labels)
    if kinds is None:
        kinds = np.zeros(count, np.intp)
    table = _shared_out(np.bincount(kinds), [*sizes, count - sum(sizes)], random)
    parts: list[list[Indices]] = [[] for _ in sizes]
    for kind, row in enumerate(table):
        mine = random.permutation(np.flatnonzero(kinds == kind))
        for part, piece in zip(parts, np.split(mine, np.cumsum(row)[:-1]), strict=False):  # the rest is left over
            part.append(piece)
    return [np.sort(np.concatenate(pieces)) for pieces in parts]


def _sizes(count: int, shares: Sequence[float]) -> list[int]:
    """share · count, rounded by largest remainders so that the sum is that of the shares."""
    exact = [share * count for share in shares]
    sizes = [math.floor(e + 1e-9) for e in exact]
    order = sorted(range(len(shares)), key=lambda i: sizes[i] - exact[i])
    for i in order[: round(sum(exact)) - sum(sizes)]:
        sizes[i] += 1
    return sizes


def _shared_out(classes: NDArray[np.intp], sizes: Sequence[int], random: np.random.Generator) -> NDArray[np.intp]:
    """Whole numbers [classes, parts] with these sums of rows and columns, each the exact share rounded up or down.

    A transport problem, whose vertices are whole (Dantzig 1951); random costs choose among them.
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    rows, columns = len(classes), len(sizes)
    exact = np.outer(classes, sizes) / sum(sizes)
    bounds = np.stack([np.floor(exact + 1e-9), np.ceil(exact - 1e-9)], -1).reshape(-1, 2)
    sums = [kron(eye_array(rows), np.ones((1, columns))), kron(np.ones((1, rows)), eye_array(columns))]
    found = linprog(
        random.random(rows * columns),
        A_eq=vstack(sums).tocsr(),
        b_eq=np.concatenate([classes, sizes]),
        bounds=bounds,
        method="highs-ds",
    )
    return np.asarray(np.rint(found.x), np.intp).reshape(rows, columns)
