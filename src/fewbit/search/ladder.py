"""The candidates that a search tries first: uniform recipes, by what they are good for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from fewbit.search.objective import Axis, Objective

Stage = Literal["ladder", "repair", "allocation", "tune"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that a search may try.

    id: names it in the session, the table and the page. recipe: a built-in name, or rules as a recipe file has them.
    effort, min_sqnr: as of `fewbit.quantize`. why: what made the search try it.
    """

    id: str
    stage: Stage
    recipe: str | Mapping[str, Any]
    why: str
    effort: str = "standard"
    min_sqnr: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def asked(self) -> dict[str, Any]:
        """What a build of it depends on, as plain data."""
        return {
            "recipe": self.recipe if isinstance(self.recipe, str) else dict(self.recipe),
            "effort": self.effort,
            "min_sqnr": self.min_sqnr,
            **self.options,
        }


_FAST = "integers of 8 bits in all kernels that the target has"
_DYNAMIC = "the same for products alone, with ranges found at every run"
_HALF = "float16 storage: half the size, and what it computes is float"
_BYTES = "weights of 8 bits, float arithmetic"
_WIDE = "activations of 16 bits"
_FOUR_BITS = ("int4-weights", "weights of 4 bits in groups of 32")

_SPEED = (("int8", _FAST), ("int8-dynamic", _DYNAMIC), ("fp16", _HALF))
_SIZE = (
    ("int8", _FAST),
    ("fp16", _HALF),
    ("int8-weights", _BYTES),
    _FOUR_BITS,
    ("codebook4", "16 levels learned from each weight"),
    ("w4a8", "weights of 4 bits in integer kernels"),
)
_MICRO = (("int8", _FAST), ("a16w8", _WIDE))

LADDERS: Mapping[tuple[str, Axis], tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        ("ort-cpu", "latency"): _SPEED,
        ("ort-cpu", "size"): _SIZE,
        ("ort-cpu", "energy"): _SPEED,
        ("litert-cpu", "latency"): _SPEED,
        ("litert-cpu", "size"): tuple(c for c in _SIZE if c[0] != "codebook4"),
        ("litert-cpu", "energy"): (*_SPEED, _FOUR_BITS),
        ("litert-micro", "latency"): _MICRO,
        ("litert-micro", "size"): _MICRO,
        ("litert-micro", "energy"): _MICRO,
        ("executorch-xnnpack", "latency"): _SPEED[:2],
        ("executorch-xnnpack", "size"): (*_SPEED[:2], _FOUR_BITS),
        ("executorch-xnnpack", "energy"): (*_SPEED[:2], _FOUR_BITS),
    }
)
"""Target and axis of the objective → recipes, those that are worth most first. What a target does not take fails in one line
and is told."""


def family(target: str) -> str:
    """The target whose candidates serve for another one too: those for certain CPUs are `ort-cpu`."""
    return "ort-cpu" if target.startswith("ort-cpu") else target


def ladder(target: str, objective: Objective) -> list[Candidate]:
    """The uniform candidates for a target: those for the heaviest axis of the objective first."""
    found = {name: why for axis in objective.axes for name, why in LADDERS[family(target), axis]}
    return [Candidate(name, "ladder", name, why) for name, why in found.items()]
