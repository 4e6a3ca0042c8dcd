"""What `tune` did."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fewbit.report.quantize import render as render_quantize


def render(data: dict[str, Any]) -> RenderableType:
    """What `quantize` says, and how the loss on the held-back samples went."""
    tuning = data["tuning"]
    start, end = ("no number" if loss is None else f"{loss:.4g}" for loss in (tuning["start_loss"], tuning["end_loss"]))
    line = (
        f"trained on {tuning['samples'] - tuning['held_back']} samples, {len(tuning['losses']) - 1} epochs; loss on the "
        f"{tuning['held_back']} held back {start} → {end}"
    )
    return Group(render_quantize(data), Text(line))
