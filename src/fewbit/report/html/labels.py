"""Where the names of points go, so that none covers another.

Greedy, in the order of importance: a label takes the nearest free place around its point, and one that finds none is left
to the table. Exact and reproducible; packages that push labels apart by simulated forces (adjustText) let some overlap
where it is crowded, and begin from random places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RINGS = (9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0)  # pixels from point to label: from touching to a long leader
_ANGLES = np.deg2rad([0, 45, -45, 180, 135, -135, 90, -90, 22, -22, 158, -158, 67, -67, 113, -113])  # right side first
_PAD = 2.0  # pixels kept free around a label
_STEPS = np.linspace(0.0, 1.0, 13)  # where a leader is looked at
LEADER = 16.0  # pixels from which a label needs a line to its point


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float


class Place(NamedTuple):
    """A label's box, and the end of its leader where it needs one."""

    box: Box
    leader: tuple[float, float] | None


def place(
    points: list[tuple[float, float]],
    sizes: list[tuple[float, float]],
    hard: list[Box],
    soft: list[Box],
    frame: Box,
) -> list[Place | None]:
    """Find places for labels.

    Args:
        points: the middle of each point in pixels, most important first.
        sizes: width and height of each label in pixels.
        hard: what no label may touch, such as the points.
        soft: what labels touch only where there is no other place, such as error bars.
        frame: what labels must stay in.

    Returns:
        A place for each label, or None where there is none.
    """
    blocked, lines, none = _array(hard), _array(soft), _array([])
    labels = none
    places: list[Place | None] = []
    for point, size in zip(points, sizes, strict=True):
        found = None
        for avoided in (lines, none):
            found = found or _free(point, size, labels, np.vstack([blocked, avoided]), frame)
        places.append(found)
        if found is not None:
            labels = np.vstack([labels, np.array([found.box])])
            if found.leader is not None:
                x, y = _along(point, found.leader)
                blocked = np.vstack([blocked, np.hstack([x, y, x, y])])
    return places


def _free(
    point: tuple[float, float],
    size: tuple[float, float],
    labels: NDArray[np.float64],
    blocked: NDArray[np.float64],
    frame: Box,
) -> Place | None:
    x, y = point
    width, height = size
    for ring in _RINGS:
        for angle in _ANGLES:
            middle_x = x + np.cos(angle) * (ring + width / 2)
            middle_y = y + np.sin(angle) * (ring + height / 2)
            box = Box(
                float(middle_x - width / 2),
                float(middle_y - height / 2),
                float(middle_x + width / 2),
                float(middle_y + height / 2),
            )
            if box.left < frame.left or box.right > frame.right or box.bottom < frame.bottom or box.top > frame.top:
                continue
            if _touches(box, labels) or _touches(box, blocked):
                continue
            end = (min(max(x, box.left), box.right), min(max(y, box.bottom), box.top))
            distance = float(np.hypot(end[0] - x, end[1] - y))
            if distance <= LEADER:
                return Place(box, None)
            if not _crosses(point, end, labels):
                return Place(box, end)
    return None


def _array(boxes: list[Box]) -> NDArray[np.float64]:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _touches(box: Box, others: NDArray[np.float64]) -> bool:
    return bool(
        np.any(
            (others[:, 0] < box.right + _PAD)
            & (others[:, 2] > box.left - _PAD)
            & (others[:, 1] < box.top + _PAD)
            & (others[:, 3] > box.bottom - _PAD)
        )
    )


def _along(start: tuple[float, float], end: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns of x and y on the way of a leader."""
    return start[0] + (end[0] - start[0]) * _STEPS[:, None], start[1] + (end[1] - start[1]) * _STEPS[:, None]


def _crosses(start: tuple[float, float], end: tuple[float, float], labels: NDArray[np.float64]) -> bool:
    """Whether a leader runs through a label."""
    x, y = _along(start, end)
    inside = (x > labels[:, 0]) & (x < labels[:, 2]) & (y > labels[:, 1]) & (y < labels[:, 3])
    return bool(np.any(inside))
