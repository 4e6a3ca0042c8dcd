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
    better = sum(after < before for before, after in blocks)
    epochs = len(tuning["losses"]) - 1 - bool(blocks)
    line = (
        f"trained on {tuning['samples'] - tuning['held_back']} samples: {better} of {len(blocks)} blocks better, {epochs} "
        "epochs; loss on the "
        f"{tuning['held_back']} held back {tuning['start_loss']:.4g} → {tuning['end_loss']:.4g}"
    )
    return Group(render_quantize(data), Text(line))
