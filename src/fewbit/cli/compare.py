"""fewbit compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import JsonOpt, LimitOpt, PreprocessOpt, QuietOpt


def command(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", show_default=False)],
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", show_default=False)],
    data: Annotated[str, typer.Option("--data", metavar="SRC", help="Samples to run both on.", show_default=False)],
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show where the error arises, layer by layer (needs a model quantized with --keep-names)."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.compare import compare
    from fewbit.report.compare import render

    result = compare(float_model, quantized, data, limit=limit, preprocess=preprocess, progress=progress_for(quiet))
    show(result, as_json, render)
