"""What `compare` found."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewbit.report.words import decibel, percent

_SHOWN = 15


def render(data: dict[str, Any]) -> RenderableType:
    """Outputs first, then the layers where most is lost."""
    outputs = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("output", "SQNR", "worst sample", "cosine", "agreement"):
        outputs.add_column(column)
    for o in data["outputs"]:
        row = (
            o["name"],
            decibel(o["sqnr_db"]),
            decibel(o["worst_sample_db"]),
            f"{o['cosine']:.5f}",
            percent(o["agreement"]),
        )
        outputs.add_row(*row)
    parts: list[RenderableType] = [outputs]
    lossy = sorted((x for x in data["layers"] if x["lost_db"] is not None), key=lambda x: -x["lost_db"])[:_SHOWN]
    if lossy:
        layers = Table(box=None, padding=(0, 2), pad_edge=False)
        for column in ("layers that lose most", "op", "SQNR", "lost"):
            layers.add_column(column)
        for x in lossy:
            layers.add_row(x["node"], x["op"], decibel(x["sqnr_db"]), f"{x['lost_db']:.1f} dB")
        parts += [Text(), layers]
    parts += [Text(f"note: {note}") for note in data["notes"]]
    return Group(*parts)
