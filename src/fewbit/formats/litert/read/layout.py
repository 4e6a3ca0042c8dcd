"""In which order a value of the hub has the axes of a tensor of the file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum


class Layout(Enum):
    """How a value is held.

    FILE: as in the file, channels last. FIRST: the last axis of the file, the channels, is the second one.
    """

    FILE = "file"
    FIRST = "first"


def order(layout: Layout, rank: int) -> list[int]:
    """The file's axis at each place of the value: FIRST of rank 4 is [0, 3, 1, 2]. Below rank 3 there is one layout alone."""
    if layout is Layout.FILE or rank < 3:
        return list(range(rank))
    return [0, rank - 1, *range(1, rank - 1)]


def placed(axis: int, layout: Layout, rank: int) -> int:
    """Where the value has this axis of the file."""
    return order(layout, rank).index(axis)


def change(before: Layout, after: Layout, rank: int) -> list[int]:
    """The perm of the Transpose from one layout to the other."""
    held = order(before, rank)
    return [held.index(axis) for axis in order(after, rank)]


def without(layout: Layout, rank: int, dropped: Collection[int]) -> Layout | None:
    """The layout of what is left when axes of the file are dropped, or None where it is neither."""
    left = [axis for axis in range(rank) if axis not in dropped]
    names = {axis: place for place, axis in enumerate(left)}
    held = [names[axis] for axis in order(layout, rank) if axis in names]
    return next((kind for kind in Layout if held == order(kind, len(left))), None)


def same_order(layout: Layout, sizes: Sequence[int | None]) -> bool:
    """Whether the numbers of a value lie in the file's order, because the axes that moved have one entry."""
    moved = [axis for axis in order(layout, len(sizes)) if sizes[axis] != 1]
    return moved == sorted(moved)
