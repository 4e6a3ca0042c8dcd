"""What targets there are and what they can do."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


def render_list(data: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("target", "format", "what"):
        table.add_column(column)
    for row in data["targets"]:
        table.add_row(row["name"], row["format"], row["description"])
    return table


def render_target(data: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("op", "forms", "activations", "weights"):
        table.add_column(column)
    for op, rule in data["ops"].items():
        table.add_row(op, ", ".join(rule["forms"]), ", ".join(rule["activations"]), ", ".join(rule["weights"]))
    head = Text(f"{data['name']}: {data['description']}; weights of up to {data['weight_bits']} bits", style="bold")
    return Group(head, table, *[Text(f"- {fact}") for fact in data["facts"]])
