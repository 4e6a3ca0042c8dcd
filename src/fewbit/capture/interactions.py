"""How the errors that layers bring to the outputs go together: they add up, or cancel, where they point the same way or
opposite ways."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

SKETCH = 1024
"""Numbers that stand for the errors of one output of one sample: inner products of two errors are known to about 1 / √1024 of
their norms."""


class Interactions:
    """Errors of outputs, kept as count sketches (Charikar, Chen, Farach-Colton 2002): every element is added, with a random
    sign, to one of a thousand places, and inner products of errors are those of their sketches on average. Outputs that are
    no longer than that are kept as they are.

    Errors of the same key, those of several nodes, add up.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._errors: dict[Hashable, dict[tuple[int, int], NDArray[np.float64]]] = {}
        self._own: dict[Hashable, dict[int, float]] = {}
        self._signal: dict[tuple[int, int], float] = {}
        self._places: dict[tuple[int, int], tuple[NDArray[np.int16], NDArray[np.int8]]] = {}

    def add(
        self, key: Hashable, sample: int, output: int, real: NDArray[np.float64], error: NDArray[np.float64]
    ) -> None:
        """What an output of a sample was off by where one node was quantized. sample, output: their numbers, from 0 on."""
        place = (sample, output)
        if place not in self._signal:
            self._signal[place] = float((real * real).sum())
        error = error.reshape(-1)
        own = self._own.setdefault(key, {})
        own[output] = own.get(output, 0.0) + float(error @ error)
        held = self._errors.setdefault(key, {})
        held[place] = held.get(place, 0.0) + self._sketch(place, error)

    def cross(self, keys: Sequence[Hashable]) -> NDArray[np.float64]:
        """[keys, keys], symmetric: what two of them together bring beyond the sum of both, as noise over signal (power) at the
        output that suffers most from all of them; on the diagonal, what the nodes of one bring beyond the sum of theirs."""
        outputs = sorted({output for _, output in self._signal})
        signal = {o: max(sum(s for (_, at), s in self._signal.items() if at == o), 1e-30) for o in outputs}
        worst = max(outputs, key=lambda o: sum(self._own[key][o] for key in keys) / signal[o])
        places = [place for place in self._signal if place[1] == worst]
        stacked = np.stack([np.concatenate([self._errors[key][place] for place in places]) for key in keys])
        products = 2.0 * stacked @ stacked.T
        own = np.array([self._own[key][worst] for key in keys])
        np.fill_diagonal(products, np.diag(products) / 2.0 - own)
        return np.asarray(products / signal[worst])

    def _sketch(self, place: tuple[int, int], error: NDArray[np.float64]) -> NDArray[np.float64]:
        if error.size <= SKETCH:
            return error
        if place not in self._places:
            if any(sample != place[0] for sample, _ in self._places):
                self._places.clear()  # outputs may be large: those of one sample are enough, and the others made again
            random = np.random.default_rng([self._seed, *place])
            signs = random.integers(0, 2, error.size, np.int8) * np.int8(2) - np.int8(1)
            self._places[place] = random.integers(0, SKETCH, error.size, np.int16), signs
        where, signs = self._places[place]
        return np.asarray(np.bincount(where, weights=signs * error, minlength=SKETCH), np.float64)
