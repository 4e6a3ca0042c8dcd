"""The plot of the chosen candidate against float: change of the metric, its interval, and the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fewbit.report.document import Document
from fewbit.report.html.figure import ACCENT, BAD, INK, LINE, MUTED, PAPER, WARN, Width, both
from fewbit.report.html.names import shortened
from fewbit.report.judge import kind
from fewbit.report.words import minus, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 64.0  # pixels for a row: its words and its bar
_LONGEST = 24  # letters of the metric's name
_REST = 74.0  # pixels for the axis and the words above


class Row(NamedTuple):
    """One interval: losses, positive is worse."""

    title: str
    drop: float
    low: float | None
    high: float | None
    upper: float | None
    certified: bool


def rows(document: Document) -> list[Row]:
    """Certification first, then what the search had seen."""
    found = []
    verdict, winner = document.verdict, document.winner
    if verdict is not None and verdict.drop is not None:
        count = "" if verdict.samples is None else f", {verdict.samples} samples"
        found.append(Row(f"certification{count}", verdict.drop, verdict.low, verdict.high, verdict.upper, True))
    if winner is not None and winner.drop is not None:
        count = "" if winner.samples is None else f", {winner.samples} samples"
        found.append(Row(f"search{count}", winner.drop, winner.drop_low, winner.drop_high, None, False))
    return found


def against_plot(document: Document) -> str | None:
    """Draw it; None where nothing was measured against float."""
    found = rows(document)
    if not found:
        return None
    points = document.metric.points
    told = "; ".join(f"{row.title}: {signed(document.change(row.drop), points)}" for row in found)
    limit = document.limits.max_drop
    at = "no limit" if limit is None else f"limit {signed(document.change(limit), points)}"
    label = (
        f"Change of {document.metric.name or 'the metric'} from float to the chosen form, with intervals. {told}; {at}."
    )
    return both("against", label, _REST + _ROW * len(found), lambda axes, width: _draw(axes, width, document, found))


def _draw(axes: Axes, width: Width, document: Document, found: list[Row]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    metric, limit = document.metric, document.limits.max_drop
    unit = 100.0 if metric.points else 1.0

    def at(drop: float) -> float:
        return (document.change(drop) or 0.0) * unit

    ends = [0.0, *(at(v) for row in found for v in (row.drop, row.low, row.high, row.upper) if v is not None)]
    ends += [] if limit is None else [at(limit)]
    room = (max(ends) - min(ends)) * 0.12 or 0.01 * unit
    left, right = min(ends) - room, max(ends) + room
    axes.set_xlim((left, right) if metric.higher_is_better else (right, left))
    axes.set_ylim(len(found) - 0.35, -0.65)
    if limit is not None:
        axes.axvspan(at(limit), left if metric.higher_is_better else right, color=BAD, alpha=0.07, linewidth=0)
        axes.axvline(at(limit), color=BAD, linewidth=1.4, linestyle="--")
        axes.annotate(
            "limit",
            (at(limit), 1.0),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=BAD,
        )
    axes.axvline(0.0, color=INK, linewidth=1.2)
    axes.annotate(
        "float", (0.0, 1.0), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center"
    )
    colour = {"pass": ACCENT, "fail": BAD, "undecided": WARN}.get(kind(document), ACCENT)
    words = []
    for i, row in enumerate(found):
        own = colour if row.certified else MUTED
        if row.low is not None and row.high is not None:
            axes.plot([at(row.low), at(row.high)], [i, i], color=own, linewidth=5 if row.certified else 3, alpha=0.55)
        if row.upper is not None:
            axes.plot(at(row.upper), i, marker="|", color=own, markersize=18, markeredgewidth=2)
        axes.plot(at(row.drop), i, marker="o", color=own, markersize=9 if row.certified else 7)
        words.append((f"{row.title}:", minus(signed(document.change(row.drop), metric.points))))
    _write_rows(axes, width, words)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(7 if width.name == "wide" else 4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}".replace("-", "−") if abs(x) > 1e-12 else "0"))
    name = shortened(metric.name or "the metric", _LONGEST)
    axes.set_xlabel(f"change of {name}{', points' if metric.points else ''}, better →")


def _write_rows(axes: Axes, width: Width, words: list[tuple[str, str]]) -> None:
    """What each bar is: beside the plot, or above the bar where the screen is narrow."""
    if width.name == "wide":
        axes.set_yticks(range(len(words)), ["\n".join(pair) for pair in words])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        return
    axes.set_yticks([])
    for i, pair in enumerate(words):
        axes.annotate(
            " ".join(pair),
            (0.0, i),
            (2, 11),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85},
        )
