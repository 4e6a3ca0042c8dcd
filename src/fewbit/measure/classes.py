"""Labels as classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def classes_of(labels: Sequence[Any]) -> NDArray[np.intp] | None:
    """The class of every label as a number from 0, [labels]; None where labels are no classes.

    Classes are scalars (numbers, text, arrays of one value) of which each occurs twice on average at least: positions and
    measurements mostly do not repeat.
    """
    flat = [np.asarray(label).reshape(-1) for label in labels]
    if not flat or any(f.size != 1 or f.dtype.kind not in "biufUS" for f in flat):
        return None
    texts = sum(f.dtype.kind in "US" for f in flat)
    if texts not in (0, len(flat)):
        return None
    kinds, numbers = np.unique(np.array([f[0] for f in flat]), return_inverse=True)
    return np.asarray(numbers, np.intp) if 2 * len(kinds) <= len(flat) else None
