"""What `data check` and `data select` found."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import percent, plain

_CLASSES = 10  # that are named


def render_check(data: dict[str, Any]) -> RenderableType:
    """Inputs, labels and ranges; then what to act on, or that there is nothing."""
    parts: list[RenderableType] = [
        Text(f"{data['samples']} samples from {plain(data['source'])}"),
        Text(),
        _inputs(data),
    ]
    facts = Table.grid(padding=(0, 2))
    for row in _facts(data):
        facts.add_row(*map(Text, row))
    if facts.row_count:
        parts += [Text(), facts]
    parts += [Text(), *[Text(f"warning: {text}") for text in data["warnings"]]]
    if not data["warnings"]:
        parts.append(Text("nothing speaks against them"))
    parts += [Text(f"note: {note}") for note in data["notes"]]
    return Group(*parts)


def _inputs(data: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("input", "the model takes", "given", "least", "greatest", "mean", "deviation"):
        table.add_column(column)
    for i in data["inputs"]:
        numbers = ("-" if i[key] is None else f"{i[key]:.4g}" for key in ("low", "high", "mean", "std"))
        table.add_row(Text(plain(i["name"])), Text(f"{i['dtype']} {i['shape']}"), i["given_dtype"], *numbers)
    return table


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    copies = data["duplicates"]
    rows.append(("copies", f"{len(copies['exact'])} exact, {len(copies['near'])} but for rounding"))
    if data["leakage"] is not None:
        shared = len(data["leakage"]["exact"]) + len(data["leakage"]["near"])
        rows.append(("also in --eval", f"{shared} of {data['samples']} ({data['evaluation_samples']} there)"))
    if data["classes"] is not None:
        known = data["classes"]["samples"]
        told = ", ".join(f"{plain(str(c['label']))}: {c['count']}" for c in known[:_CLASSES])
        more = f" and {len(known) - _CLASSES} more" if len(known) > _CLASSES else ""
        whose = "" if data["evaluation_samples"] is None else " of --eval"
        rows.append((f"classes{whose}", f"{data['classes']['count']} ({told}{more})"))
    ranges = data["ranges"]
    if ranges is not None:
        rows.append(
            (
                "ranges",
                f"from the first half of {ranges['samples']} to all they move by {percent(ranges['median'])} (median of "
                f"{ranges['activations']} activations), {percent(ranges['worst']['share'])} at most",
            )
        )
    training = data["training"]
    if training is not None:
        rows.append(
            (
                "as in training",
                f"{training['width']:.3g} times the deviation, {training['apart']:.3g} deviations away, at "
                f"{plain(training['value'])}",
            )
        )
    return rows


def render_selection(data: dict[str, Any]) -> RenderableType:
    """Where the samples are, and how they cover all beside the first ones."""
    count = len(data["positions"])
    shared = "" if data["classes"] is None else f", by shares of {data['classes']} classes"
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("", f"the {count} chosen", f"the first {count}"):
        table.add_column(column)
    for key, label in (("mean_distance", "mean distance to the nearest"), ("largest_distance", "largest distance")):
        table.add_row(label, *(f"{data[side][key]:.3f}" for side in ("chosen", "first")))
    table.add_row("share of the ranges reached", *(percent(data[side]["ranges"]) for side in ("chosen", "first")))
    return Group(
        Text(f"{plain(data['path'])}: {count} of {data['samples']} samples from {plain(data['source'])}{shared}"),
        Text(),
        table,
        *[Text(f"note: {note}") for note in data["notes"]],
    )
