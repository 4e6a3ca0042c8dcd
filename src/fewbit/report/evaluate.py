"""What `eval` measured."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def render(data: dict[str, Any]) -> RenderableType:
    """The metric, the baseline's and the change, in points where the metric is a share."""
    table = Table.grid(padding=(0, 2))
    points = data["points"]
    table.add_row(data["metric"], _value(data["value"], points))
    if data["baseline"] is not None:
        table.add_row("float", _value(data["baseline"], points))
        change = data["change"] * 100 if points else data["change"]
        unit = " points" if points else ""
        verdict = "better" if data["lost"] < 0 else "worse" if data["lost"] > 0 else "no change"
        table.add_row("change", "none" if data["lost"] == 0 else f"{change:+.2f}{unit} ({verdict})")
    table.add_row("samples", str(data["samples"]))
    return Group(table, *[Text(f"note: {note}") for note in data["notes"]])


def _value(value: float, points: bool) -> str:
    return f"{value:.2%}" if points else f"{value:.4f}"
