"""What `bench` measured."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import size


def render(data: dict[str, Any]) -> RenderableType:
    """A row for each batch and number of threads, then memory and size."""
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
    facts.add_row("on", f"{data['runtime']}, {data['cpu']}")
    return Group(table, facts, *[Text(f"note: {note}") for note in data["notes"]])
