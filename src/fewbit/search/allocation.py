"""Which format each layer gets: the cheapest assignment whose noise stays within a budget, for a sweep of budgets.

The noises that layers bring to the outputs on their own are taken to add up, as they do while they are small and
independent; the assignment is then a multiple-choice knapsack, solved exactly as a mixed-integer linear program (HiGHS,
by scipy). So in HAWQ-V3 (Yao et al. 2021, section 3.4) and in Hubara et al. 2021 ("Accurate Post Training Quantization
With Small Calibration Sets", section 3.3). Where they do not, terms of pairs are added, as in CLADO (Deng et al. 2023,
"Mixed-Precision Quantization with Cross-Layer Dependencies", equation 6), and the products of two choices are made
linear by a variable each (McCormick 1976).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.search.solver import minimize

_TINY = 1e-12  # noise-to-signal ratio below which a layer is exact: float32 holds no less


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, or layers that share a weight, and what each format would cost and bring.

    cost: (formats,) in any one unit. noise: (formats,) noise-to-signal power at the output that suffers most.
    """

    name: str
    cost: tuple[float, ...]
    noise: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """What two layers in certain formats bring beyond the sum of both; below 0 where their errors cancel.

    first, second: (layer, format), by their indices; the same twice for what one brings beyond its own noise.
    """

    first: tuple[int, int]
    second: tuple[int, int]
    noise: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """One format for each layer, by its index. noise: the sum of the layers' and pairs'; sqnr: the same in dB. cost: the
    sum."""

    formats: tuple[int, ...]
    cost: float
    noise: float

    @property
    def sqnr(self) -> float:
        return float(-10.0 * np.log10(max(self.noise, _TINY)))


def allocate(layers: Sequence[Layer], most_noise: float, pairs: Sequence[Pair] = ()) -> Assignment | None:
    """The cheapest assignment with at most so much noise; None where there is none."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    sizes = [len(layer.cost) for layer in layers]
    starts = np.cumsum([0, *sizes])
    choices, count = int(starts[-1]), int(starts[-1]) + len(pairs)
    cost = np.concatenate([*(layer.cost for layer in layers), np.zeros(len(pairs))])
    noise = np.concatenate([*(np.maximum(layer.noise, 0.0) for layer in layers), [pair.noise for pair in pairs]])
    rows = np.repeat(np.arange(len(layers)), sizes)
    one_each = csr_array((np.ones(choices), (rows, np.arange(choices))), shape=(len(layers), count))
    scale = max(most_noise, _TINY)  # the solver's tolerances are absolute
    constraints = [
        LinearConstraint(one_each, 1, 1),
        LinearConstraint(noise[None] / scale, -np.inf, most_noise / scale),
    ]
    if pairs:
        constraints.append(_together(pairs, starts, count))
    solved = minimize(
        cost / max(float(cost.max()), 1e-30),
        integers=np.repeat([1, 0], [choices, len(pairs)]),
        upper=1,
        constraints=constraints,
    )
    if solved is None:
        return None
    parts: list[NDArray[np.float64]] = np.split(solved[:choices], starts[1:-1])
    return _assignment(layers, [int(np.argmax(part)) for part in parts], pairs)


def _together(pairs: Sequence[Pair], starts: NDArray[np.intp], count: int) -> Any:
    """Variables that are 1 where both choices of a pair are taken: at least their sum - 1 where that costs noise, at most
    either where it saves some."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import lil_array

    table = lil_array((2 * len(pairs), count))
    for index, pair in enumerate(pairs):
        ends = [int(starts[layer]) + format for layer, format in (pair.first, pair.second)]
        own = int(starts[-1]) + index
        if pair.noise > 0:  # first + second - both <= 1
            for end in ends:
                table[2 * index, end] += 1
            table[2 * index, own] = -1
        else:  # both - first <= 0, both - second <= 0
            for row, end in enumerate(ends):
                table[2 * index + row, end] = -1
                table[2 * index + row, own] = 1
    most = np.array([limit for pair in pairs for limit in ((1.0, 0.0) if pair.noise > 0 else (0.0, 0.0))])
    return LinearConstraint(table.tocsr(), -np.inf, most)


def sweep(layers: Sequence[Layer], count: int, pairs: Sequence[Pair] = ()) -> list[Assignment]:
    """Assignments for budgets of noise in equal steps of dB, from the cheapest to the one of least noise; no two alike."""
    least = _assignment(layers, [int(np.argmin(layer.noise)) for layer in layers], pairs)
    cheapest = _assignment(layers, [int(np.argmin(layer.cost)) for layer in layers], pairs)
    found: dict[tuple[int, ...], Assignment] = {cheapest.formats: cheapest}
    for budget in np.geomspace(max(cheapest.noise, _TINY), max(least.noise, _TINY), count)[1:-1]:
        assignment = allocate(layers, float(budget), pairs)
        if assignment is not None:
            found.setdefault(assignment.formats, assignment)
    found.setdefault(least.formats, least)
    return sorted(found.values(), key=lambda a: a.cost)


def _assignment(layers: Sequence[Layer], formats: Sequence[int], pairs: Sequence[Pair]) -> Assignment:
    chosen = set(enumerate(formats))
    alone = sum(max(layer.noise[f], 0.0) for layer, f in zip(layers, formats, strict=True))
    together = sum(pair.noise for pair in pairs if {pair.first, pair.second} <= chosen)
    cost = sum(layer.cost[f] for layer, f in zip(layers, formats, strict=True))
    return Assignment(tuple(formats), float(cost), float(max(alone + together, 0.0)))
