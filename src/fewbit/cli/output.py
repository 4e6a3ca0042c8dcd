"""Results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fewbit.progress import SILENT, Advance, Progress

_LINE_SECONDS = 10.0


def show(result: Any, as_json: bool, render: Callable[[dict[str, Any]], Any]) -> None:
    """Print a result: its data as JSON, or what `render` makes of the data."""
    data = result if isinstance(result, dict) else result.to_dict()
    if as_json:
        sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False, default=str) + "\n")
        return
    from rich.console import Console

    Console(highlight=False, soft_wrap=False).print(render(data))


def progress_for(quiet: bool) -> Progress:
    """A progress bar with time left on a terminal, a line every so often elsewhere, nothing when quiet."""
    return SILENT if quiet else Terminal()


class Terminal:
    """Progress on stderr."""

    @contextmanager
    def task(self, label: str, total: int | None) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        if not console.is_terminal:
            yield _Lines(label, total)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps: bar.advance(task, steps)

    def note(self, text: str) -> None:
        sys.stderr.write(text + "\n")


class _Lines:
    """Progress where there is no terminal: a line every ten seconds."""

    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = self.told = time.monotonic()

    def __call__(self, steps: int) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.told < _LINE_SECONDS:
            return
        self.told = now
        left = ""
        if self.total:
            left = f" of {self.total}, {(now - self.started) / self.done * (self.total - self.done):.0f} s left"
        sys.stderr.write(f"{self.label}: {self.done}{left}\n")
