"""The names of points in a plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fewbit.report.html.figure import INK, MUTED
from fewbit.report.html.labels import Box, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = 6.0  # pixels from the middle of a mark to its edge
_LINE = 1.5  # pixels from the middle of a line to its edge
_PIECES = 40  # boxes that stand for a sloping line


class Named(NamedTuple):
    """A point with its name, in the units of the axes; `whole` is the name where it is shortened."""

    x: float
    y: float
    name: str
    bold: bool = False
    quiet: bool = False
    whole: str = ""


def shortened(name: str, most: int) -> str:
    """A long name without its middle: layers of one network begin alike and end differently."""
    if len(name) <= most:
        return name
    end = most // 2
    return f"{name[: most - end - 1]}…{name[-end:]}"


def write_names(
    axes: Axes,
    named: Sequence[Named],
    marks: Sequence[tuple[float, float]],
    lines: Sequence[tuple[float, float, float, float]] = (),
) -> list[str]:
    """Write names beside their points where there is room.

    Args:
        axes: with its limits final.
        named: most important first.
        marks: every point, also those without a name.
        lines: (x, y) to (x, y) of lines that names should not cross.

    Returns:
        The names for which there was no room.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the names lie inside: the axes stay where they are
    transform = axes.transData.transform

    def pixels(x: float, y: float) -> tuple[float, float]:
        found = transform((x, y))
        return float(found[0]), float(found[1])

    hard = [_around(*pixels(*mark), _MARK) for mark in marks]
    hard += [Box(*box.extents) for box in (text.get_window_extent() for text in axes.texts)]
    soft = [piece for line in lines for piece in _pieces(pixels(*line[:2]), pixels(*line[2:]))]
    texts = [
        axes.text(
            0,
            0,
            one.name,
            ha="left",
            va="baseline",
            color=MUTED if one.quiet else INK,
            weight="bold" if one.bold else "normal",
        )
        for one in named
    ]
    extents = [text.get_window_extent() for text in texts]
    base = pixels(0.0, 0.0)
    at = [pixels(one.x, one.y) for one in named]
    frame = Box(*axes.get_window_extent().extents)
    places = place(at, [(e.width, e.height) for e in extents], hard, soft, frame)
    left_off = []
    back = axes.transData.inverted().transform
    for one, text, extent, found in zip(named, texts, extents, places, strict=True):
        if found is None:
            text.remove()
            left_off.append(one.whole or one.name)
            continue
        drop = base[1] - extent.y0  # from the text's lower edge to its base line
        text.set_position(tuple(back((found.box.left, found.box.bottom + drop))))
        if found.leader is not None:
            end = back(found.leader)
            axes.plot([one.x, end[0]], [one.y, end[1]], color=MUTED, linewidth=0.7, zorder=1.5)
    return left_off


def _around(x: float, y: float, reach: float) -> Box:
    return Box(x - reach, y - reach, x + reach, y + reach)


def _pieces(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    if start[0] == end[0] or start[1] == end[1]:
        low, high = (min(start[0], end[0]), min(start[1], end[1])), (max(start[0], end[0]), max(start[1], end[1]))
        return [Box(low[0] - _LINE, low[1] - _LINE, high[0] + _LINE, high[1] + _LINE)]
    steps = [i / _PIECES for i in range(_PIECES + 1)]
    return [_around(start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s, _LINE) for s in steps]
