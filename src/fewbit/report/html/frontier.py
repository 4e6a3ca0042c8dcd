"""The plot of all candidates: what each gains against what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from fewbit.report.document import Candidate, Document
from fewbit.report.html.figure import ACCENT, BAD, INK, LINE, MUTED, PAPER, Width, both
from fewbit.report.html.names import Named, shortened, write_names
from fewbit.report.judge import standing, standing_words
from fewbit.report.words import minus, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The lowest loss that is drawn to scale, in limits (see `_depth`): a form of 2 bits that loses eighty points would press all
# others together.
_DEEPEST = 4.0
_HEIGHT = 440.0
_LONGEST = {"wide": 44, "narrow": 24}  # letters of a name
_NAMED = {"wide": 24, "narrow": 12}  # names in one plot: more hide the points
_CROWD = 20  # points from which the bars of those that nobody may choose are drawn faint
_MARKS = {"frontier": "o", "measured": "o", "over": "X", "stopped": "s", "failed": "^", "chosen": "*"}
_AXES = {
    "latency": "times as fast as float",
    "size": "times smaller than float",
    "energy": "times less energy than float",
}


class Gain(NamedTuple):
    """How many times better than float, with an interval where one was measured."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate's place: gain to the right, change of the metric upwards where it is better."""

    candidate: Candidate
    gain: Gain
    change: float
    low: float | None
    high: float | None
    standing: str
    pinned: bool  # lies below the plot


@dataclass(frozen=True, slots=True)
class Plot:
    """The plot as SVG, and what it does not show: names of candidates with the reason; names without room by width."""

    svg: str
    axis: str
    absent: tuple[tuple[str, str], ...]
    unnamed: dict[str, tuple[str, ...]]
    pinned: tuple[str, ...]
    signs: tuple[tuple[str, str, str], ...]


def gain(candidate: Candidate, document: Document, objective: str) -> Gain | None:
    """How much better than float a candidate is by an objective."""
    if objective == "latency":
        latency = candidate.latency
        return Gain(latency.ratio, latency.low, latency.high) if latency is not None and latency.ratio else None
    if objective == "size":
        whole, part = document.model.bytes, candidate.bytes
        return Gain(whole / part) if whole and part else None
    if objective == "energy":
        energy = candidate.energy
        return Gain(1 / energy.ratio) if energy is not None and energy.ratio else None
    return Gain(candidate.gain) if candidate.gain else None


def plotted_objective(document: Document) -> str:
    """What candidates are compared by, or the size where none has a figure of it."""
    objective = document.scale
    known = objective and any(gain(c, document, objective) for c in document.candidates)
    return objective if known else "size"


def axis_title(objective: str) -> str:
    """What is to the right."""
    return _AXES.get(objective, f"times better than float ({objective})")


def frontier_plot(document: Document) -> Plot | None:
    """Draw it; None where no candidate has both figures."""
    objective = plotted_objective(document)
    deepest = _depth(document)
    points, absent = [], []
    for one in document.candidates:
        found, change = gain(one, document, objective), document.change(one.drop)
        if found is None or change is None or one.drop is None:
            absent.append((one.title, one.reason or standing_words(standing(one, document))[1]))
            continue
        pinned = deepest is not None and one.drop > deepest
        ends = (document.change(one.drop_low), document.change(one.drop_high))
        points.append(Point(one, found, change, *ends, standing(one, document), pinned))
    if not points:
        return None
    unnamed: dict[str, tuple[str, ...]] = {}

    def draw(axes: Axes, width: Width) -> None:
        unnamed[width.name] = tuple(_draw(axes, width, document, objective, points, deepest))

    label = (
        f"Plot of {len(points)} candidates and the float model: {axis_title(objective)} to the right, "
        f"change of {document.metric.name or 'the metric'} upwards. The table of candidates holds the same figures."
    )
    svg = both("frontier", label, _HEIGHT, draw)
    there = {p.standing for p in points}
    signs = tuple((*standing_words(key), key) for key in _MARKS if key in there)
    pinned_names = tuple(p.candidate.title for p in points if p.pinned)
    return Plot(svg, axis_title(objective), tuple(absent), unnamed, pinned_names, signs)


def _depth(document: Document) -> float | None:
    """The largest loss that is drawn to scale; all are where there is neither a limit nor a frontier that loses."""
    limit = document.limits.max_drop
    if not limit:
        kept = [c.drop for c in document.candidates if (c.frontier or c.id == document.chosen) and c.drop is not None]
        limit = max(kept, default=0.0)
    return _DEEPEST * limit if limit > 0 else None


def _draw(
    axes: Axes, width: Width, document: Document, objective: str, points: list[Point], deepest: float | None
) -> list[str]:
    unit = 100.0 if document.metric.points else 1.0
    upwards = 1.0 if document.metric.higher_is_better else -1.0
    floor = _frame(axes, document, objective, points, deepest, unit)
    lines = _limits(axes, document, objective, points, unit)
    edge = sorted((p.gain.value, p.change * unit) for p in points if p.candidate.frontier and not p.pinned)
    # A form between two of the frontier is as good as the next to the right: stairs, not slopes.
    if edge:
        axes.plot(*zip(*edge, strict=True), drawstyle="steps-pre", color=MUTED, linewidth=1.2, zorder=1)
    for (x, y), (right, above) in pairwise(edge):
        lines += [(x, y, x, above), (x, above, right, above)]
    marks = [(1.0, 0.0)]
    axes.plot(1.0, 0.0, marker="D", color=INK, markersize=7, zorder=4)
    named = []
    for point in points:
        x, y = point.gain.value, floor if point.pinned else point.change * unit
        colour = {"chosen": ACCENT, "over": BAD, "failed": BAD, "stopped": MUTED}.get(point.standing, INK)
        hollow = point.standing in ("stopped", "failed", "measured")
        chosen = point.standing == "chosen"
        strength = 0.3 if len(points) > _CROWD and not (chosen or point.candidate.frontier) else 0.7
        if not point.pinned and point.low is not None and point.high is not None:
            ends = sorted((point.low * unit, point.high * unit))
            axes.plot([x, x], ends, color=colour, linewidth=1.2, alpha=strength, zorder=2)
            lines.append((x, ends[0], x, ends[1]))
        if point.gain.low is not None and point.gain.high is not None:
            axes.plot([point.gain.low, point.gain.high], [y, y], color=colour, linewidth=1.2, alpha=strength, zorder=2)
            lines.append((point.gain.low, y, point.gain.high, y))
        axes.plot(
            x,
            y,
            marker=_MARKS.get(point.standing, "o"),
            color=colour,
            markerfacecolor=PAPER if hollow else colour,
            markersize=17 if chosen else 8,
            zorder=5 if chosen else 3,
            clip_on=False,
        )
        marks.append((x, y))
        title = shortened(point.candidate.title, _LONGEST[width.name])
        if point.pinned:
            title += f" ↓ {minus(signed(point.change, document.metric.points, unit=False))}"
        named.append(Named(x, y, title, chosen, point.standing in ("stopped", "failed", "over"), point.candidate.title))
    order = {"chosen": 0, "frontier": 1, "measured": 2}
    by_rank = sorted(zip(points, named, strict=True), key=lambda pair: order.get(pair[0].standing, 3))
    names = [name for _, name in by_rank]
    names.insert(1 if names[0].bold else 0, Named(1.0, 0.0, "float"))
    if upwards < 0:
        axes.invert_yaxis()
    most = _NAMED[width.name]
    return write_names(axes, names[:most], marks, lines) + [name.whole for name in names[most:]]


def _frame(
    axes: Axes, document: Document, objective: str, points: list[Point], deepest: float | None, unit: float
) -> float:
    """Set axes and their limits; the height at which points lie that are too deep to show."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    limit = document.limits.max_drop
    worse = -1.0 if document.metric.higher_is_better else 1.0
    shown = [0.0, *([worse * limit] if limit is not None else [])]
    for point in points:
        if point.pinned:
            continue
        ends = [v for v in (point.low, point.high) if v is not None]
        # An interval of few samples is long: it runs out of the plot before it presses the points.
        if deepest is not None:
            ends = [min(max(v, -deepest), deepest) for v in ends]
        shown += [point.change, *ends]
    low, high = min(shown) * unit, max(shown) * unit
    room = (high - low) * 0.1 or unit * 0.01
    floor = high + room * 2.5 if worse > 0 else low - room * 2.5
    pins = any(p.pinned for p in points)
    axes.set_ylim(
        floor - room * 0.6 if pins and worse < 0 else low - room,
        floor + room * 0.6 if pins and worse > 0 else high + room,
    )
    across = [1.0, *(v for p in points for v in (p.gain.value, p.gain.low, p.gain.high) if v is not None)]
    margin = (max(across) - min(across)) * 0.12 or 0.1
    axes.set_xlim(max(min(across) - margin, min(across) / 2), max(across) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"×{x:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:+g}".replace("-", "−") if abs(y) > 1e-12 else "0"))
    axes.tick_params(length=0)
    axes.set_xlabel(f"{axis_title(objective)}, better →")
    metric = document.metric
    head = f"↑ better: change of {shortened(metric.name or 'the metric', 24)}{', points' if metric.points else ''}"
    axes.set_title(head, loc="left", fontsize="medium", color=MUTED)
    return floor


def _limits(
    axes: Axes, document: Document, objective: str, points: list[Point], unit: float
) -> list[tuple[float, float, float, float]]:
    """Draw the limits as lines with what lies beyond them shaded."""
    limits, metric = document.limits, document.metric
    lines = []
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.axhline(0.0, color=LINE, linewidth=1.2, zorder=0.5)
    if limits.max_drop is not None:
        y = document.change(limits.max_drop) or 0.0
        beyond = low if metric.higher_is_better else high
        axes.axhline(y * unit, color=BAD, linewidth=1.4, linestyle="--", zorder=1)
        axes.axhspan(y * unit, beyond, color=BAD, alpha=0.07, linewidth=0, zorder=0)
        words = f"limit: may lose {limits.max_drop_text or signed(limits.max_drop, metric.points).lstrip('+')}"
        # On the side where fewer points are.
        middle = (left + right) / 2
        on_left = sum(p.gain.value > middle for p in points) * 2 > len(points)
        axes.annotate(
            words,
            (0.0 if on_left else 1.0, y * unit),
            (4 if on_left else -4, -4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left" if on_left else "right",
            va="top",
            color=BAD,
        )
        lines.append((left, y * unit, right, y * unit))
    whole = document.model.bytes
    at = None
    if objective == "size" and limits.max_size and whole:
        at = whole / limits.max_size
    elif objective == "latency" and limits.max_latency_ratio:
        at = 1 / limits.max_latency_ratio
    if at is not None:
        axes.set_xlim(min(left, at - (right - left) * 0.05), max(right, at + (right - left) * 0.05))
        axes.axvline(at, color=BAD, linewidth=1.4, linestyle="--", zorder=1)
        axes.annotate(
            "limit",
            (at, 1.0),
            (-4, -4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            va="top",
            color=BAD,
        )
        lines.append((at, low, at, high))
    return lines
