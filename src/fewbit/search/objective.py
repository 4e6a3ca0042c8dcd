"""What a search makes small: time, size, energy, or a weighted sum of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fewbit.errors import RecipeError

Axis = Literal["latency", "size", "energy"]
AXES: tuple[Axis, ...] = ("latency", "size", "energy")


@dataclass(frozen=True, slots=True)
class Objective:
    """Axes with their weights, which add up to 1, the heaviest first: the sum of weight · cost over the float model's cost is
    to be small."""

    weights: tuple[tuple[Axis, float], ...]

    @property
    def only(self) -> Axis | None:
        """The axis, where there is just one."""
        return self.weights[0][0] if len(self.weights) == 1 else None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(axis for axis, _ in self.weights)

    def gain(self, of: Callable[[Axis], float]) -> float:
        """How many times better than the float model: one over the weighted sum of costs. of: the same along one axis."""
        return 1.0 / sum(weight / of(axis) for axis, weight in self.weights)

    def __str__(self) -> str:
        """As people write it."""
        if self.only is not None:
            return self.only
        return ",".join(f"{axis}={weight:.3g}" for axis, weight in self.weights)


def parse_objective(text: str) -> Objective:
    """`latency`, `size`, `energy`, or weights: `latency=2,size=1`.

    Raises:
        RecipeError: another form, an axis twice, or a weight that is not above zero.
    """
    found: dict[Axis, float] = {}
    for part in str(text).split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        axis = next((known for known in AXES if known == name), None)
        if axis is None:
            raise RecipeError(
                f"objective {name!r} does not exist; use {', '.join(AXES)}, or weights such as latency=2,size=1"
            )
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = 0.0
        if not 0.0 < weight < float("inf") or axis in found:
            raise RecipeError(f"objective {text!r}: give each axis once, with a weight above 0, as in latency=2,size=1")
        found[axis] = weight
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return Objective(tuple((axis, weight / total) for axis, weight in ordered))


LATENCY = parse_objective("latency")
