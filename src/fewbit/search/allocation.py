"""Which format each layer gets: the cheapest assignment whose noise stays within a budget, for a sweep of budgets.

The noises that layers bring to the outputs on their own are taken to add up, as they do while they are small and
independent; the assignment is then a multiple-choice knapsack, solved exactly as a mixed-integer linear program (HiGHS,
by scipy). So in HAWQ-V3 (Yao et al. 2021, section 3.4) and in Hubara et al. 2021 ("Accurate Post Training Quantization
With Small Calibration Sets", section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
class Assignment:
    """One format for each layer, by its index. noise: the sum of the layers'; sqnr: the same in dB. cost: the sum."""

    formats: tuple[int, ...]
    cost: float
    noise: float

    @property
    def sqnr(self) -> float:
        return float(-10.0 * np.log10(max(self.noise, _TINY)))


def allocate(layers: Sequence[Layer], most_noise: float) -> Assignment | None:
    """The cheapest assignment with at most so much noise; None where there is none."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    sizes = [len(layer.cost) for layer in layers]
    cost = np.concatenate([layer.cost for layer in layers])
    noise = np.concatenate([np.maximum(layer.noise, 0.0) for layer in layers])
    rows = np.repeat(np.arange(len(layers)), sizes)
    one_each = csr_array((np.ones(len(cost)), (rows, np.arange(len(cost)))), shape=(len(layers), len(cost)))
    scale = max(most_noise, _TINY)  # the solver's tolerances are absolute
    solved = minimize(
        cost / max(float(cost.max()), 1e-30),
        integers=np.ones(len(cost)),
        upper=1,
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(noise[None] / scale, -np.inf, most_noise / scale),
        ],
    )
    if solved is None:
        return None
    starts = np.cumsum([0, *sizes[:-1]])
    parts: list[NDArray[np.float64]] = np.split(solved, starts[1:])
    return _assignment(layers, [int(np.argmax(part)) for part in parts])


def sweep(layers: Sequence[Layer], count: int) -> list[Assignment]:
    """Assignments for budgets of noise in equal steps of dB, from the cheapest to the one of least noise; no two alike."""
    least = _assignment(layers, [int(np.argmin(layer.noise)) for layer in layers])
    cheapest = _assignment(layers, [int(np.argmin(layer.cost)) for layer in layers])
    found: dict[tuple[int, ...], Assignment] = {cheapest.formats: cheapest}
    for budget in np.geomspace(max(cheapest.noise, _TINY), max(least.noise, _TINY), count)[1:-1]:
        assignment = allocate(layers, float(budget))
        if assignment is not None:
            found.setdefault(assignment.formats, assignment)
    found.setdefault(least.formats, least)
    return sorted(found.values(), key=lambda a: a.cost)


def _assignment(layers: Sequence[Layer], formats: Sequence[int]) -> Assignment:
    pairs = [*zip(layers, formats, strict=True)]
    return Assignment(
        tuple(formats), float(sum(x.cost[f] for x, f in pairs)), float(sum(max(x.noise[f], 0.0) for x, f in pairs))
    )
