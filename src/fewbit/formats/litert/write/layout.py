"""Layouts: how the axes of a tensor in the file lie relative to the hub's.

A layout is a permutation: axis i of the file's tensor is axis layout[i] of the hub's. NHWC of an image is (0, 2, 3, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

Layout = tuple[int, ...]


def identity(rank: int) -> Layout:
    """The hub's own layout."""
    return tuple(range(rank))


def channels_last(rank: int) -> Layout:
    """(N, C, ...) as (N, ..., C)."""
    return (0, *range(2, rank), 1)


def permuted(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The shape in the file."""
    return tuple(shape[axis] for axis in layout)


def between(have: Layout, want: Layout) -> Layout:
    """The permutation that a Transpose applies to get from one layout to another."""
    return tuple(have.index(axis) for axis in want)


def after_transpose(layout: Layout, perm: Sequence[int]) -> Layout:
    """The layout that the same tensor has for the result of the hub's Transpose by `perm`."""
    order = list(perm)
    return tuple(order.index(axis) for axis in layout)


def only_ones_move(shape: Sequence[int], have: Layout, want: Layout) -> bool:
    """Whether two layouts of a shape are the same numbers in the same order: a Reshape instead of a Transpose."""
    return [a for a in have if shape[a] != 1] == [a for a in want if shape[a] != 1]


def reshaped(before: Sequence[int], after: Sequence[int], layout: Layout) -> Layout | None:
    """The layout of a Reshape's result if the file's tensor can be reshaped as it lies, else None.

    Axes fall into groups of equal size on both sides. The numbers keep their order within the groups if each group's axes
    lie side by side and in order in the file; then the groups may lie in any order.
    """
    if 0 in before:
        return tuple(range(len(after))) if layout == tuple(range(len(before))) else None
    groups = _groups(before, after)
    order: list[tuple[int, list[int]]] = []
    place = {axis: position for position, axis in enumerate(a for a in layout if before[a] != 1)}
    rest: list[int] = []
    for left, right in groups:
        positions = [place[a] for a in left if before[a] != 1]
        if positions != list(range(positions[0], positions[0] + len(positions))) if positions else False:
            return None
        if positions:
            order.append((positions[0], right))
        else:
            rest += right
    result = [axis for _, right in sorted(order) for axis in right]
    # Axes of size 1 may lie anywhere: behind the axis before them identity stays identity, and a batch stays in front.
    for axis in sorted(rest):
        result.insert(result.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(result)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Runs of axes on both sides with the same number of elements, each as short as it can be."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        one = (i < len(before) and before[i] == 1, j < len(after) and after[j] == 1)
        if any(one):
            groups.append(([i] if one[0] else [], [j] if one[1] else []))
            i, j = i + one[0], j + one[1]
            continue
        left, right = [i], [j]
        sizes = [before[i], after[j]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                left.append(left[-1] + 1)
                sizes[0] *= before[left[-1]]
            else:
                right.append(right[-1] + 1)
                sizes[1] *= after[right[-1]]
        groups.append((left, right))
        i, j = left[-1] + 1, right[-1] + 1
    return groups
