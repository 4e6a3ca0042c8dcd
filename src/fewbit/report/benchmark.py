"""What `bench` measured."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import counts, size


def render(data: dict[str, Any]) -> RenderableType:
    """A row for each batch and number of threads, then memory, size and the kernels that run."""
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("batch", "threads", "model", "baseline", "speed-up", "95 % interval"):
        table.add_column(column, justify="right")
    for timing in data["timings"]:
        model, base = timing["model"], timing["baseline"]
        row = [str(timing["batch"]), str(timing["threads"]), f"{model['milliseconds']:.3f} ms"]
        if base is None:
            row += ["-", "-", "-"]
        else:
            interval = f"{model['ratio_low']:.2f} to {model['ratio_high']:.2f}"
            row += [f"{base['milliseconds']:.3f} ms", f"×{model['ratio']:.2f}", interval]
        table.add_row(*row)
    facts = Table.grid(padding=(0, 2))
    against = data["baseline_memory"] is not None
    facts.add_row("memory", size(data["memory"]) + (f", baseline {size(data['baseline_memory'])}" if against else ""))
    facts.add_row("file", size(data["bytes"]) + (f", baseline {size(data['baseline_bytes'])}" if against else ""))
    other = data["baseline_runtime"] not in (None, data["runtime"])
    facts.add_row(
        "on", f"{data['runtime']}, {data['cpu']}" + (f", baseline {data['baseline_runtime']}" if other else "")
    )
    if data["execution"] is not None:
        _add_execution(facts, data["execution"], data["baseline_execution"])
    return Group(table, facts, *[Text(f"note: {note}") for note in data["notes"]])


def _add_execution(facts: Table, execution: dict[str, Any], baseline: dict[str, Any] | None) -> None:
    kernels = execution["kernels"]
    groups = (("in integers", "integer"), ("in float", "float_heavy"), ("conversions", "conversions"))
    for title, name in groups:
        if kernels[name]:
            facts.add_row(title, counts(kernels[name]))
    if execution["partitions"] is not None:
        own = [f"{op['op']} {op['count']} ({op['dtypes']})" for op in execution["ops"] if op["where"] != "XNNPACK"]
        parts = execution["partitions"]
        facts.add_row("XNNPACK", f"{parts} part{'' if parts == 1 else 's'}; not in it: {', '.join(own) or 'nothing'}")
    if execution["arena_bytes"] is not None:
        base = None if baseline is None else baseline["arena_bytes"]
        more = "" if base is None else f", baseline {size(base)}"
        facts.add_row("activations", f"{size(execution['arena_bytes'])} on a microcontroller{more}")
