"""The table of cases, and what those of several families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.formats.litert.build import Tflite


@dataclass(frozen=True)
class Case:
    """One file. make: builds it. ranges: for each input the bounds of its numbers, where they are not normal ones."""

    op: str
    make: Callable[[Tflite], Any]
    ranges: dict[int, tuple[float, float]] = field(default_factory=dict)
    tolerance: float = 1e-5


CASES: dict[str, Case] = {}


def case(
    name: str, op: str | None = None, **options: Any
) -> Callable[[Callable[[Tflite], Any]], Callable[[Tflite], Any]]:
    """A row of `CASES`; the operator is the first word of the name, in capitals, unless it is given."""

    def add(make: Callable[[Tflite], Any]) -> Callable[[Tflite], Any]:
        add_case(name, make, op, **options)
        return make

    return add


def add_case(name: str, make: Callable[[Tflite], Any], op: str | None = None, **options: Any) -> None:
    assert name not in CASES
    CASES[name] = Case(op or name.split(" ", maxsplit=1)[0], make, **options)


IMAGE = (1, 6, 8, 4)


def several_outputs(
    op: str,
    inputs: Callable[[Tflite], list[int]],
    shapes: list[tuple[int, ...]],
    options: str | None,
    dtypes: Any = None,
    **f: Any,
) -> Any:
    def make(t: Tflite) -> None:
        given = inputs(t)
        outputs = [t.tensor(s, d) for s, d in zip(shapes, dtypes or ["float32"] * len(shapes), strict=True)]
        t.op(op, given, outputs, options, several=True, **f)

    return make
