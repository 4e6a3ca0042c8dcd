"""What `reproduce` made."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text


def render(data: dict[str, Any]) -> RenderableType:
    """That the file is the same, and which versions are not."""
    lines = [Text(f"{data['path']}: the recorded file, byte for byte (SHA-256 {data['sha256'][:16]}…)", style="bold")]
    for name, (then, now) in data["differing_versions"].items():
        lines.append(Text(f"note: {name} was {then}, is {now}: it made no difference"))
    return Group(*lines)
