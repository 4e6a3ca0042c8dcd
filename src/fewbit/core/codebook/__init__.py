"""Non-uniform formats: weights as indices into a short table of values: real = table[index] · scale.

A table is fixed (`TABLES`) or learned from the weight (`kmeans`); the other modules take either.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fewbit.core.codebook import fixed
from fewbit.errors import RecipeError

TABLES: dict[str, Callable[[int], NDArray[np.float32]]] = {
    "nf4": fixed.nf4,
    "fp4": fixed.fp4,
    "fp4_bnb": fixed.fp4_bnb,
    "pot": fixed.pot,
    "apot": fixed.apot,
}

KMEANS = "kmeans"
"""The codebook whose table is learned from the weight."""

CODEBOOKS = (*TABLES, KMEANS)


def table(name: str, bits: int) -> NDArray[np.float32]:
    """The levels of a fixed format.

    Args:
        name: a key of `TABLES`.
        bits: width of an index.

    Returns:
        float32 (levels,), ascending, with at most 2**bits levels, of which the largest magnitude is 1.

    Raises:
        RecipeError: no such table, or a width that it does not have.

    >>> table("fp4", 4)[-3:].tolist()
    [0.5, 0.6666666865348816, 1.0]
    """
    if name not in TABLES:
        raise RecipeError(f"codebook {name!r} is not known; use one of {', '.join(TABLES)}")
    return TABLES[name](bits)
