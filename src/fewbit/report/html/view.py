"""What the page says, as words: the template only places them."""

from __future__ import annotations

from typing import NamedTuple

from fewbit.measure.paired.verdict import confident
from fewbit.report.document import Candidate, Document, Latency, Layer
from fewbit.report.html.layers import form_words
from fewbit.report.judge import STAGES, over, standing, standing_words
from fewbit.report.words import minus, percent, score, signed, size

NONE = "–"


class Tile(NamedTuple):
    """One figure: float's and the chosen one's, with a line beneath."""

    title: str
    before: str
    after: str
    lines: tuple[str, ...]


class Cell(NamedTuple):
    """A cell of a table: its words, and the number to sort by where it has one."""

    text: str
    key: float | None = None
    more: str = ""


class CandidateRow(NamedTuple):
    """A line of the table of candidates."""

    title: str
    key: str
    sign: str
    standing: str
    cells: tuple[Cell, ...]
    reason: str


class LayerRow(NamedTuple):
    """A line of the table of layers."""

    number: int
    name: str
    cells: tuple[Cell, ...]
    reason: str


CANDIDATE_HEADS = ("size", "speed", "metric", "change", "memory", "energy", "SQNR", "samples", "time", "made by")
LAYER_HEADS = ("op", "form", "weights", "activations", "bits", "SQNR", "work")


def change(drop: float | None, document: Document, unit: bool = True) -> str:
    return minus(signed(document.change(drop), document.metric.points, unit))


def interval(low: float | None, high: float | None, document: Document) -> str:
    """A change's interval, its smaller end first."""
    if low is None or high is None:
        return ""
    ends = sorted((document.change(low) or 0.0, document.change(high) or 0.0))
    return " to ".join(minus(signed(end, document.metric.points, unit=False)) for end in ends)


def times(value: float | None) -> str:
    return NONE if value is None else f"×{value:.2f}"


def bytes_of(count: float | None) -> str:
    return NONE if count is None else size(count)


def share(value: float | None) -> str:
    return NONE if value is None else percent(value)


def decibels(value: float | None) -> str:
    return NONE if value is None else minus(f"{value:.1f} dB")


def smaller(value: float | None) -> str:
    return "" if value is None else f"{percent(value)} smaller" if value >= 0 else f"{percent(-value)} larger"


def speed(latency: Latency | None) -> str:
    """Whether it is faster, in words: a ratio below one is easily read as good. What the interval does not tell apart is the
    same."""
    if latency is None or latency.ratio is None:
        return ""
    low, high = latency.low, latency.high
    if latency.ratio == 1 or (low is not None and high is not None and low <= 1 <= high):
        return "as fast as float"
    return "faster than float" if latency.ratio > 1 else "slower than float"


def tiles(document: Document) -> list[Tile]:
    """Float against the chosen form; float alone where none was chosen."""
    metric, model, limits = document.metric, document.model, document.limits
    verdict, winner = document.verdict, document.winner
    one = winner or Candidate("")
    before = verdict.baseline if verdict is not None and verdict.baseline is not None else metric.value
    after, drop, low, high = one.value, one.drop, one.drop_low, one.drop_high
    of = f"{one.samples} samples of the search" if one.samples is not None else ""
    if verdict is not None and verdict.value is not None:
        after, drop, low, high = verdict.value, verdict.drop, verdict.low, verdict.high
        of = f"{verdict.samples} samples kept for certification" if verdict.samples is not None else ""
    sure = "" if verdict is None or verdict.confidence is None else f"{confident(verdict.confidence)} "
    bounds = interval(low, high, document)
    latency, energy = one.latency, one.energy
    span = ""
    if latency is not None and latency.low is not None and latency.high is not None:
        span = f"interval {times(latency.low)} to {times(latency.high)}"
    kind = "" if energy is None or energy.ratio is None else "estimate" if energy.estimated else "measured"
    figures = [
        Tile(
            metric.name or "metric",
            score(before, metric.points),
            score(after, metric.points),
            (
                "" if drop is None else f"{change(drop, document)} ({worse(drop)})",
                f"{sure}interval {bounds}" if bounds else "",
                of if after is not None else "",
                f"may lose {limits.max_drop_text}" if limits.max_drop_text else "",
            ),
        ),
        Tile(
            "size",
            bytes_of(model.bytes),
            bytes_of(one.bytes),
            (smaller(one.smaller), f"at most {size(limits.max_size)}" if limits.max_size is not None else ""),
        ),
        Tile(
            "speed",
            "×1" if document.timed else "",
            times(None if latency is None else latency.ratio),
            (
                speed(latency) if document.timed else "nothing was timed",
                span,
                "" if latency is None or latency.milliseconds is None else f"{latency.milliseconds:.3g} ms a run",
                f"at most {limits.max_latency_ratio:g} of float's time" if limits.max_latency_ratio is not None else "",
            ),
        ),
        Tile(
            "memory",
            "",
            bytes_of(one.memory),
            (
                "" if one.memory is None else "to load and run" if document.timed else "of activations",
                f"at most {size(limits.max_memory)}" if limits.max_memory is not None else "",
            ),
        ),
        Tile("energy", "×1", times(None if energy is None else energy.ratio), ("of float's" if kind else "", kind)),
    ]
    return [Tile(t.title, t.before, t.after, tuple(line for line in t.lines if line)) for t in figures]


def worse(drop: float) -> str:
    return "worse" if drop > 0 else "better" if drop < 0 else "no change"


def candidate_rows(document: Document) -> list[CandidateRow]:
    """In the order of the document: that in which they were tried."""
    found = []
    for one in document.candidates:
        key = standing(one, document)
        sign, words = standing_words(key)
        broken = over(one, document)
        if broken and key != "over":
            words = f"{words}, over a limit"
        if broken:
            words += f" ({', '.join(broken)})"
        latency, energy = one.latency, one.energy
        ratio = None if latency is None else latency.ratio
        spent = None if energy is None else energy.ratio
        span = ""
        if latency is not None and latency.low is not None and latency.high is not None:
            span = f"{latency.low:.2f} to {latency.high:.2f}"
        runs = None if latency is None else latency.milliseconds
        cells = (
            Cell(bytes_of(one.bytes), one.bytes, smaller(one.smaller)),
            Cell(times(ratio), ratio, " · ".join(filter(None, (span, "" if runs is None else f"{runs:.3g} ms")))),
            Cell(score(one.value, document.metric.points), one.value),
            Cell(
                change(one.drop, document, unit=False),
                document.change(one.drop),
                interval(one.drop_low, one.drop_high, document),
            ),
            Cell(bytes_of(one.memory), one.memory),
            Cell(times(spent), spent, "" if spent is None or energy is None else _known(energy.estimated)),
            Cell(decibels(one.sqnr_db), one.sqnr_db),
            Cell(NONE if one.samples is None else str(one.samples), one.samples),
            Cell(NONE if one.seconds is None else f"{one.seconds:.1f} s", one.seconds),
            Cell(STAGES.get(one.stage, one.stage or NONE)),
        )
        found.append(CandidateRow(one.title, key, sign, words, cells, one.reason or NONE))
    return found


def _known(estimated: bool) -> str:
    return "estimate" if estimated else "measured"


def layer_row(number: int, layer: Layer) -> LayerRow:
    cells = (
        Cell(layer.op or NONE),
        Cell(form_words(layer.form)),
        Cell(layer.weight or NONE),
        Cell(layer.activation or NONE),
        Cell(NONE if layer.bits is None else f"{layer.bits:g}", layer.bits),
        Cell(decibels(layer.sqnr_db), layer.sqnr_db),
        Cell(share(layer.work), layer.work),
    )
    return LayerRow(number, layer.name, cells, layer.reason or NONE)


def findings(document: Document) -> list[tuple[str, str]]:
    """What else the certification found."""
    verdict, points = document.verdict, document.metric.points
    if verdict is None:
        return []
    found = []
    if verdict.upper is not None:
        sure = "" if verdict.confidence is None else f", {confident(verdict.confidence)} sure"
        found.append((f"at worst{sure}", change(verdict.upper, document)))
    if verdict.needed is not None:
        found.append(("samples that would decide", f"about {verdict.needed}"))
    flips = verdict.flips
    if flips is not None:
        counts = [
            f"{n} {what}"
            for n, what in ((flips.worse, "for the worse"), (flips.better, "for the better"))
            if n is not None
        ]
        found.append(("answers that changed", "; ".join([share(flips.changed), *counts])))
    worst = verdict.worst_class
    if worst is not None:
        on = "" if worst.samples is None else f", {worst.samples} samples"
        moved = f"{score(worst.before, points)} → {score(worst.after, points)}{on}"
        found.append(("class that lost most", f"{worst.name or NONE}: {moved}"))
    error = verdict.calibration_error
    if error is not None:
        ends = [NONE if v is None else f"{v:.3f}" for v in (error.before, error.after)]
        found.append(("calibration error", " → ".join(ends)))
    return found


def sources(document: Document) -> list[tuple[str, str]]:
    """How it was measured."""
    splits, limits, verdict = document.splits, document.limits, document.verdict
    counts = [
        f"{NONE if n is None else n} {what}"
        for n, what in (
            (splits.calibration, "for calibration"),
            (splits.search, "for the search"),
            (splits.certification, "for certification"),
        )
    ]
    bounds = [
        f"loses at most {limits.max_drop_text or change(limits.max_drop, document).lstrip('+−')}"
        if limits.max_drop is not None
        else "",
        f"at most {size(limits.max_size)}" if limits.max_size is not None else "",
        f"at most {limits.max_latency_ratio:g} of float's time" if limits.max_latency_ratio is not None else "",
        f"at most {size(limits.max_memory)} of memory" if limits.max_memory is not None else "",
    ]
    seed = NONE if splits.seed is None else str(splits.seed)
    drawn = {True: ", classes in equal shares", False: ", without regard to classes", None: ""}[splits.stratified]
    energy: dict[str, None] = {}
    for one in document.candidates:
        if one.energy is not None and one.energy.ratio is not None:
            energy[f"{_known(one.energy.estimated)}: {one.energy.source or 'source not told'}"] = None
    method = NONE
    if verdict is not None and verdict.method:
        method = verdict.method + (
            "" if verdict.confidence is None else f", {confident(verdict.confidence)} confidence"
        )
    took = NONE if document.seconds is None else f"{document.seconds:.0f} s"
    if document.budget is not None:
        took += f" of {document.budget:.0f} s allowed"
    return [
        ("model", f"{document.model.name or NONE}, {bytes_of(document.model.bytes)}"),
        ("fingerprint", document.model.fingerprint or NONE),
        ("target", document.target or NONE),
        ("objective", _objective(document)),
        ("limits", "; ".join(b for b in bounds if b) or "none"),
        ("runtime", document.runtime or NONE),
        ("processor", document.cpu or NONE),
        ("samples", "; ".join(counts)),
        ("seed of the split", seed + drawn),
        ("method", method),
        ("energy", "; ".join(energy) or NONE),
        ("evaluations", NONE if document.evaluations is None else f"as many as {document.evaluations:g} full ones"),
        ("took", took),
        ("fewbit", document.fewbit or NONE),
        ("made", document.created or NONE),
    ]


def _objective(document: Document) -> str:
    asked, by = document.objective or NONE, document.scale
    return asked if by == document.objective else f"{asked}, compared by {by}: nothing was timed"
