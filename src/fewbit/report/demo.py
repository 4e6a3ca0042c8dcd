"""What `demo` shows: the whole job on one page."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fewbit.report import quantize
from fewbit.report.words import size


def render(data: dict[str, Any]) -> RenderableType:
    """Float beside int8, then the details, then what to try next."""
    made, scored, timed = data["quantize"], data["eval"], data["bench"]
    timing = timed["timings"][0]
    table = Table(box=None, padding=(0, 3), pad_edge=False)
    for column in ("", "float", "int8", "change"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(
        f"top-1 on {scored['samples']} images",
        f"{scored['baseline']:.2%}",
        f"{scored['value']:.2%}",
        f"{scored['change'] * 100:+.2f} points",
    )
    table.add_row("file", size(made["float_bytes"]), size(made["bytes"]), f"{-made['smaller']:.0%}")
    table.add_row(
        "latency, 1 thread",
        f"{timing['baseline']['milliseconds']:.3f} ms",
        f"{timing['model']['milliseconds']:.3f} ms",
        f"×{timing['model']['ratio']:.2f} faster"
        if timing["model"]["ratio"] >= 1
        else f"×{timing['model']['ratio']:.2f}",
    )
    table.add_row("memory to load and run", size(timed["baseline_memory"]), size(timed["memory"]), "")
    notes = [Text(f"note: {note}") for note in timed["notes"]]
    return Group(
        Text("A residual network for 8 × 8 digits, quantized to 8-bit integers\n", style="bold"),
        table,
        *notes,
        Rule("what was done", style="dim"),
        quantize.render(made),
        Rule("next", style="dim"),
        Text("fewbit quantize YOUR.onnx -o OUT.onnx --data SAMPLES.npz\nfewbit inspect YOUR.onnx --recipe int8"),
    )
