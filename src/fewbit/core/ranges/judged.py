"""The choice between ranges by what the layers that read them make of the error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLAIN = 0
"""The candidate that stays where no other one proves better."""

_LEAST_GAIN = 10.0**0.05  # half a dB: a local gain below it did not show at the outputs, or showed as a loss


def centred_error(
    mean: NDArray[np.floating], square: NDArray[np.floating], known: NDArray[np.floating]
) -> NDArray[np.float64]:
    """E[(e - k)²] = E[e²] - 2 k E[e] + k² of errors e, when a constant k is taken off each channel.

    Args:
        mean: E[e] of each channel, shape (..., C). square: E[e²] over all channels, (...).
        known: k of each channel, broadcasting to `mean`: what bias correction takes off.
    """
    return np.asarray(square - (2.0 * known * mean - known * known).mean(-1), np.float64)


def best_candidate(chosen_by: NDArray[np.floating], held_back: NDArray[np.floating]) -> int:
    """The candidate of the least error on some samples, if it keeps half a dB of its gain on the others, else `PLAIN`.

    Args:
        chosen_by, held_back: the error of each candidate, shape (C,), on the samples that choose and on those that confirm;
            the plain one first. NaN loses.
    """
    best = int(np.argmin(np.where(np.isnan(chosen_by), np.inf, chosen_by)))
    return best if held_back[best] * _LEAST_GAIN <= held_back[PLAIN] else PLAIN
