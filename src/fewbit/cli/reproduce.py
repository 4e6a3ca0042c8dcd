"""fewbit reproduce"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import DataOpt, JsonOpt, QuietOpt


def command(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="manifest.json of a search.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The file to write.", show_default=False)],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="Where the float model is now.", show_default=False),
    ] = None,
    data: DataOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Make the model that a search chose again, from the float model and the samples, byte for byte."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.auto.manifest import reproduce
    from fewbit.report.reproduce import render

    show(reproduce(manifest, out, model=model, data=data, progress=progress_for(quiet)), as_json, render)
