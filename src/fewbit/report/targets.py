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
        weights = [*rule["weights"], *(dtype for dtype in rule["packed"] if dtype not in rule["weights"])]
        table.add_row(op, ", ".join(rule["forms"]), ", ".join(rule["activations"]), ", ".join(weights))
    head = f"{data['name']}: {data['description']}; weights of up to {data['weight_bits']} bits"
    if data["pair_limit"] is not None:
        head += f", 8 where two neighbours of one sign add up to at most {data['pair_limit']} or the layer is depthwise"
    return Group(Text(head, style="bold"), table, *[Text(f"- {fact}") for fact in data["facts"]])


def render_probe(data: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for column in ("op", "form", "claimed", "so?", "seen"):
        table.add_column(column, no_wrap=column != "seen")
    for probe in data["probes"]:
        verdict = Text("yes") if probe["ok"] else Text("NO", style="bold red")
        table.add_row(probe["op"], probe["form"], probe["claimed"], verdict, probe["seen"])
    told = [probe for probe in data["probes"] if probe["why"]]
    lines = [Text(f"- {p['op']}, {p['form']}: {p['why']}", style="" if p["ok"] else "red") for p in told]
    wrong = sum(not probe["ok"] for probe in data["probes"])
    head = f"{data['target']} in {data['runtime']} on {data['cpu']}"
    foot = f"{len(data['probes'])} claims, {f'{wrong} of them not so' if wrong else 'all so'} on this machine"
    return Group(Text(head, style="bold"), table, *lines, Text(foot, style="bold"))
