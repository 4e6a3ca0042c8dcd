"""What `auto` found."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.measure.paired.verdict import confident
from fewbit.report.document import Candidate, Document, parse
from fewbit.report.judge import kind, sentence, standing, standing_words
from fewbit.report.words import percent, score, signed, size

_STYLES = {"pass": "bold green", "fail": "bold red", "undecided": "bold yellow", "none": "bold", "missing": "bold red"}
_NAME = 14  # letters of a candidate's name on a line, however narrow the terminal
_ROWS = {"chosen": "bold", "over": "red", "failed": "red", "stopped": "dim", "skipped": "dim"}

_SHORT = 10  # characters of a name that heads a column of figures


def render(data: dict[str, Any]) -> RenderableType:
    """The verdict in one sentence, float beside the chosen form, every candidate, and what the user should know.

    Names are `Text`: markup in them is shown, not obeyed.
    """
    document = parse(data)
    parts: list[RenderableType] = [Text(sentence(document), style=_STYLES[kind(document)])]
    if document.candidates:
        parts += [Text(), _candidates(document), Text(_legend(document), style="dim")]
        reasons = [(c.title, c.reason) for c in document.candidates if c.reason]
        parts += [Text(f"- {name}: {reason}") for name, reason in reasons]
    facts = _facts(document)
    if facts.row_count:
        parts += [Text(), facts]
    parts += [Text(f"advice: {text}") for text in document.advice]
    parts += [Text(f"note: {text}") for text in document.notes]
    return Group(*parts)


def _candidates(document: Document) -> Table:
    metric, energy = document.metric, "energy" in document.scale
    table = Table(box=None, padding=(0, 2, 0, 0), collapse_padding=True, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("candidate", overflow="fold", min_width=_NAME)
    heads: list[str | Text] = [
        "size",
        "speed",
        *(["energy"] if energy else []),
        Text(metric.name if 0 < len(metric.name) <= _SHORT else "metric"),
        "change",
        "interval",
    ]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_row(
        "",
        "float",
        _size(document.model.bytes),
        "×1.00" if document.timed else "–",
        *(["×1.00"] if energy else []),
        score(metric.value, metric.points),
        "",
        "",
    )
    for one in document.candidates:
        key = standing(one, document)
        cells = [_size(one.bytes), _times(None if one.latency is None else one.latency.ratio)]
        cells += [_energy(one)] if energy else []
        cells += [
            score(one.value, metric.points),
            signed(document.change(one.drop), metric.points, unit=False),
            _interval(one.drop_low, one.drop_high, document),
        ]
        table.add_row(standing_words(key)[0], Text(one.title), *cells, style=_ROWS.get(key, ""))
    return table


def _legend(document: Document) -> str:
    """What the signs before the candidates mean: in a column of their own the words would not fit 80 letters."""
    told: dict[str, list[str]] = {}
    for key in dict.fromkeys(standing(one, document) for one in document.candidates):
        sign, words = standing_words(key)
        told.setdefault(sign, []).append(words)
    return "  ".join(f"{sign} {', '.join(words)}" for sign, words in told.items())


def _facts(document: Document) -> Table:
    facts = Table.grid(padding=(0, 2))
    verdict, metric = document.verdict, document.metric
    points = metric.points
    if verdict is not None and verdict.drop is not None:
        bounds = _interval(verdict.low, verdict.high, document)
        sure = "" if verdict.confidence is None else f"{confident(verdict.confidence)} "
        line = signed(document.change(verdict.drop), points) + (f", {sure}interval {bounds}" if bounds else "")
        line += "" if verdict.samples is None else f", {verdict.samples} samples"
        facts.add_row("certified", Text(line + (f" ({verdict.method})" if verdict.method else "")))
    if verdict is not None and verdict.flips is not None:
        flips = verdict.flips
        counts = [f"{n} {what}" for n, what in ((flips.worse, "worse"), (flips.better, "better")) if n is not None]
        facts.add_row("answers changed", ", ".join([percent(flips.changed), *counts]))
    if metric.name:
        facts.add_row("metric", Text(f"{metric.name}; in the table on the samples for the search"))
    if document.target or document.runtime:
        where = " on ".join(filter(None, (document.runtime, document.cpu)))
        facts.add_row("for", Text(", ".join(filter(None, (document.target, where)))))
    if document.seconds is not None:
        budget = "" if document.budget is None else f" of {document.budget:.0f} s"
        facts.add_row("took", f"{document.seconds:.1f} s{budget}")
    return facts


def _size(count: float | None) -> str:
    return "–" if count is None else size(count)


def _times(value: float | None) -> str:
    return "–" if value is None else f"×{value:.2f}"


def _energy(one: Candidate) -> str:
    if one.energy is None or one.energy.ratio is None:
        return "–"
    return f"{'~' if one.energy.estimated else ''}×{one.energy.ratio:.2f}"


def _interval(low: float | None, high: float | None, document: Document) -> str:
    if low is None or high is None:
        return ""
    ends = sorted((document.change(low) or 0.0, document.change(high) or 0.0))
    return " to ".join(signed(end, document.metric.points, unit=False) for end in ends)
