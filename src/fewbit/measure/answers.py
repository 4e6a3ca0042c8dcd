"""How sure answers are: scores behind probabilities, and answers that lie within the noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Views = Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]
"""Output name → what it is turned into before it is judged; outputs without an entry are judged as they are."""

INTEGER_STEP = 1 / 256
"""Of probabilities that kernels give as 8-bit integers."""

TINY = float(np.finfo(np.float32).tiny)
"""The least probability that float32 holds in full."""

_NEAR_ONE = 2.0**-24  # float32 holds nothing between this far below 1 and 1


def scores_of_softmax(p: NDArray[Any], axis: int, least: float = TINY) -> NDArray[np.float64]:
    """The scores that a Softmax turned into probabilities, less their mean along the axis, which it does not keep.

    least: probabilities below it count as this much, as integers tell nothing of them.
    """
    logarithms = np.log(np.clip(p.astype(np.float64), least, 1.0))
    return np.asarray(logarithms - logarithms.mean(axis, keepdims=True))


def scores_of_sigmoid(p: NDArray[Any], least: float = TINY) -> NDArray[np.float64]:
    """The scores that a Sigmoid turned into probabilities, as far as float32 tells them; `least` as of a Softmax."""
    p = p.astype(np.float64)
    return np.asarray(np.log(np.clip(p, least, 1.0)) - np.log(np.clip(1.0 - p, max(least, _NEAR_ONE), 1.0)))


def answers_at_risk(real: NDArray[np.floating], quantized: NDArray[np.floating]) -> float:
    """The share of answers that noise is expected to change: the mean over rows of Φ(−m / σ), with m the lead of the highest
    score over the second, and σ² the mean square of the error of that lead. Unlike the share that did change, it is not
    zero because a few samples happened to have no close call.

    Args:
        real, quantized: scores, rows by classes (N, C), C at least 2.
    """
    from scipy.special import ndtr

    order = np.argpartition(real, -2, axis=-1)[:, -2:]
    second, first = np.take_along_axis(real, order, -1).astype(np.float64).T
    lead = first - second
    low, high = np.take_along_axis(quantized, order, -1).astype(np.float64).T
    spread = float(np.sqrt(np.mean((high - low - lead) ** 2)))
    if spread == 0.0:
        return 0.0
    return float(ndtr(-lead / spread).mean())
