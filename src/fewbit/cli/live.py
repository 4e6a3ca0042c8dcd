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
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from fewbit.report.auto import render

    with Live(console=console, transient=True, auto_refresh=False) as shown:

        def changed(document: Mapping[str, Any]) -> None:
            doing = Text(f"{document['seconds']:.0f} s  {_doing(document)}", style="cyan")
            parts = [render(dict(document)), doing] if document["candidates"] else [doing]
            shown.update(Group(*parts), refresh=True)

        yield progress, changed


def _doing(document: Mapping[str, Any]) -> str:
    """What the search is doing, and how far it is with it."""
    words, doing = str(document["stage"]), document["doing"]
    if doing is not None:
        of = f" of {doing['total']}" if doing["total"] else ""
        words += f": {doing['label']}, {doing['done']}{of}"
    if document["budget"] is not None:
        words += f"; {max(0.0, document['budget'] - document['seconds']):.0f} s left"
    return words


class _Lines:
    """A line for every stage of the search, and for every candidate that was measured."""

    def __init__(self) -> None:
        self.stage = ""

    def __call__(self, document: Mapping[str, Any]) -> None:
        if document["stage"] != self.stage:
            self.stage = str(document["stage"])
            best = f", best so far {document['chosen']}" if document["chosen"] else ""
            sys.stderr.write(f"{document['seconds']:6.1f} s  {self.stage}{best}\n")
