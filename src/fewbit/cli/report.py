"""fewbit report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import JsonOpt


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that `fewbit auto` made.", show_default=False)
    ],
    as_json: JsonOpt = False,
) -> None:
    """Make DIR/report.html again from DIR/auto.json, and tell what it says."""
    from fewbit.cli.output import show
    from fewbit.report.auto import render
    from fewbit.report.html import write_html
    from fewbit.report.stored import read_document

    data = read_document(folder)
    write_html(data, folder / "report.html")
    show(data, as_json, render)
