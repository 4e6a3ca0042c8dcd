"""Where a candidate stands, in one word: the table, the plot and the terminal call it the same."""

from __future__ import annotations

from fewbit.report.document import Candidate, Document

# status: (sign, word). The sign tells them apart without colour, in tables as in plots.
STANDINGS: dict[str, tuple[str, str]] = {
    "chosen": ("★", "chosen"),
    "frontier": ("●", "on the frontier"),
    "measured": ("○", "measured"),
    "over": ("✕", "over a limit"),
    "stopped": ("□", "stopped early"),
    "failed": ("△", "failed"),
    "skipped": ("–", "skipped"),
}

STAGES = {"ladder": "one recipe", "repair": "repaired", "allocation": "mixed precision", "tune": "trained"}

KINDS: dict[str, tuple[str, str]] = {  # verdict: (sign, word)
    "pass": ("✓", "Passed"),
    "fail": ("✕", "Failed"),
    "undecided": ("?", "Undecided"),
    "none": ("–", "Not certified"),
    "missing": ("✕", "Nothing found"),
}


def kind(document: Document) -> str:
    """The verdict's kind; one that is not known counts as none, and none where nothing was chosen as missing."""
    verdict = document.verdict
    if document.winner is None and (verdict is None or verdict.kind == "none"):
        return "missing"
    return verdict.kind if verdict is not None and verdict.kind in KINDS else "none"


def sentence(document: Document) -> str:
    """The verdict in one sentence, also where nothing was certified."""
    verdict, winner = document.verdict, document.winner
    if verdict is not None and verdict.sentence:
        return verdict.sentence
    if winner is None:
        told = [c for c in document.candidates if c.drop is not None or c.bytes is not None]
        if not told:
            return "No candidate was measured."
        return (
            "No candidate keeps to the limits." if all(over(c, document) for c in told) else "No candidate was chosen."
        )
    return f"{winner.title} was chosen; its accuracy was not certified."


def standing(candidate: Candidate, document: Document) -> str:
    """A key of `STANDINGS`; a status that is not known stands as it is written."""
    if candidate.id == document.chosen:
        return "chosen"
    if candidate.status != "measured":
        return candidate.status
    if over(candidate, document):
        return "over"
    return "frontier" if candidate.frontier else "measured"


def over(candidate: Candidate, document: Document) -> tuple[str, ...]:
    """The limits that a candidate's own figures break, by name; figures that are not there break none."""
    limits, latency = document.limits, candidate.latency
    share = None if latency is None or not latency.ratio else 1 / latency.ratio
    pairs = (
        ("drop", candidate.drop, limits.max_drop),
        ("size", candidate.bytes, limits.max_size),
        ("latency", share, limits.max_latency_ratio),
        ("memory", candidate.memory, limits.max_memory),
    )
    return tuple(name for name, value, limit in pairs if value is not None and limit is not None and value > limit)


def standing_words(key: str) -> tuple[str, str]:
    """Sign and word of a standing."""
    return STANDINGS.get(key, ("·", key or "–"))
