"""How much memory activations take on a microcontroller: tensors placed so that those alive together do not overlap.

The plan is that of TFLite Micro's greedy planner: tensors by falling size, each at the first gap that is wide enough
(tensorflow/lite/micro/memory_planner/greedy_memory_planner.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

ALIGNMENT = 16
"""Bytes; kBufferAlignment of TFLite Micro."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A tensor, and the first and last step at which it has to be there."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether there is a step at which both have to be there."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Arena:
    """bytes: of the planned arena. live: the most bytes that are needed at one step, below which no plan can go. step: that
    step. offsets: of each tensor, in the order given."""

    bytes: int
    live: int
    step: int
    offsets: tuple[int, ...]


def plan_arena(tensors: Sequence[Lifetime], alignment: int = ALIGNMENT) -> Arena:
    """Place tensors in an arena; each begins and ends at a multiple of the alignment."""
    sizes = [-(-tensor.bytes // alignment) * alignment for tensor in tensors]
    offsets: dict[int, int] = {}
    for index in sorted(range(len(tensors)), key=lambda i: -sizes[i]):
        taken = sorted((offsets[i], sizes[i]) for i in offsets if tensors[i].meets(tensors[index]))
        place = 0
        for start, size in taken:
            if start - place >= sizes[index]:
                break
            place = max(place, start + size)
        offsets[index] = place
    changes = [0] * (2 + max((tensor.last for tensor in tensors), default=0))
    for tensor, size in zip(tensors, sizes, strict=True):
        changes[tensor.first] += size
        changes[tensor.last + 1] -= size
    live = list(accumulate(changes))
    total = max((offsets[i] + sizes[i] for i in offsets), default=0)
    return Arena(total, max(live), live.index(max(live)), tuple(offsets[i] for i in range(len(tensors))))
