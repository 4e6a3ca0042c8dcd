"""fewbit compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    DynamicOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    LimitOpt,
    PreprocessOpt,
    QuietOpt,
    import_options,
)


def command(
    float_model: Annotated[Path, typer.Argument(metavar="FLOAT", show_default=False)],
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", show_default=False)],
    data: Annotated[str, typer.Option("--data", metavar="SRC", help="Samples to run both on.", show_default=False)],
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show where the error arises, layer by layer (needs a model quantized with --keep-names)."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.compare import compare
    from fewbit.flow.opening import open_models
    from fewbit.report.compare import render

    options = import_options(input_shape, dynamic, factory, allow_pickle)
    left, right = open_models([float_model, quantized], options, data, progress_for(quiet), to_run=True)
    result = compare(left, right, data, limit=limit, preprocess=preprocess, progress=progress_for(quiet))
    show(result, as_json, render)
