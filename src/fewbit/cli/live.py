"""A table that is redrawn while a search runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fewbit.cli.output import progress_for
from fewbit.progress import Progress

Changed = Callable[[Mapping[str, Any]], None]


@contextmanager
def live(quiet: bool) -> Iterator[tuple[Progress, Changed]]:
    """(progress, what to call with the document of the search): a live table on a terminal, a line for every new stage
    elsewhere, nothing when quiet; on stderr."""
    progress = progress_for(quiet)
    if quiet:
        yield progress, lambda document: None
        return
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield progress, _Lines()
        return
    from rich.live import Live

    from fewbit.report.auto import render

    with Live(console=console, transient=True, auto_refresh=False) as shown:
        yield progress, lambda document: shown.update(render(dict(document)), refresh=True)


class _Lines:
    """A line for every stage of the search, and for every candidate that was measured."""

    def __init__(self) -> None:
        self.stage = ""

    def __call__(self, document: Mapping[str, Any]) -> None:
        if document["stage"] != self.stage:
            self.stage = str(document["stage"])
            best = f", best so far {document['chosen']}" if document["chosen"] else ""
            sys.stderr.write(f"{document['seconds']:6.1f} s  {self.stage}{best}\n")
