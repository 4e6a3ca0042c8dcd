"""What `tune` did."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fewbit.report.quantize import render as render_quantize


def render(data: dict[str, Any]) -> RenderableType:
    """What `quantize` says, and how the loss on the held-back samples went."""
    tuning = data["tuning"]
    blocks = tuning["blocks"]
    better = sum(before is not None and after is not None and after < before for before, after in blocks)
    epochs = len(tuning["losses"]) - 1 - bool(blocks)
    start, end = ("no number" if loss is None else f"{loss:.4g}" for loss in (tuning["start_loss"], tuning["end_loss"]))
    line = (
        f"trained on {tuning['samples'] - tuning['held_back']} samples: {better} of {len(blocks)} blocks better, {epochs} "
        f"epochs; loss on the {tuning['held_back']} held back {start} → {end}"
    )
    return Group(render_quantize(data), Text(line))
