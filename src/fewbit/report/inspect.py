"""What `inspect` found."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import counts, samples, size


def render(data: dict[str, Any]) -> RenderableType:
    """The model's ends and ops, rules applied, and the plan node by node."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("opset", str(data["opset"]))
    for kind in ("inputs", "outputs"):
        for info in data[kind]:
            shape = "any shape" if info["shape"] is None else str([n or "?" for n in info["shape"]])
            facts.add_row(kind[:-1], f"{info['name']} {info['dtype']} {shape}")
    facts.add_row("parameters", f"{data['parameters']:,} ({size(data['weight_bytes'])})")
    facts.add_row("ops", counts(data["ops"]))
    if data["quantized"]:
        facts.add_row("quantized", data["quantized"])
    applied: dict[str, int] = {}
    for rule in data["rules"]:
        if rule["applied"]:
            applied[rule["rule"]] = applied.get(rule["rule"], 0) + 1
    facts.add_row("normalized by", counts(applied))
    parts: list[RenderableType] = [Text(data["path"], style="bold"), facts]
    plan = data["plan"]
    if plan:
        table = Table(box=None, padding=(0, 2), pad_edge=False)
        for column in ("node", "op", "form", "why"):
            table.add_column(column, overflow="fold")
        for node in plan["nodes"]:
            table.add_row(node["name"], node["op"], node["form"], node["reason"])
        parts.append(Text(f"\nrecipe {plan['recipe']} for {plan['target']}", style="bold"))
        if plan["calibration"]:
            parts.append(Text(f"samples: {samples(plan['calibration'])}"))
        parts.append(table)
    return Group(*parts)
