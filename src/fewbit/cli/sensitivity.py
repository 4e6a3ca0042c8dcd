"""fewbit sensitivity"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    DynamicOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    ModelArg,
    PreprocessOpt,
    QuietOpt,
    SignatureOpt,
    TargetOpt,
    import_options,
)


def command(
    model: ModelArg,
    data: Annotated[
        str,
        typer.Option("--data", metavar="SRC", help="Samples: an .npz, a folder, or FILE.py:NAME.", show_default=False),
    ],
    recipes: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            show_default=False,
            help="Formats to try; repeatable (fp16, int8-weights, int4-weights, int8, as far as the target has them).",
        ),
    ] = None,
    target: TargetOpt = None,
    samples: Annotated[
        int,
        typer.Option("--samples", "--limit", min=1, metavar="N", help="Measure the noise on the first N samples."),
    ] = 8,
    preprocess: PreprocessOpt = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show how much noise each layer alone brings in each format, and which to leave wide."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.sensitivity import sensitivity
    from fewbit.report.sensitivity import render

    result = sensitivity(
        model,
        data,
        recipes or (),
        target,
        samples=samples,
        preprocess=preprocess,
        importing=import_options(input_shape, dynamic, factory, allow_pickle, signature),
        progress=progress_for(quiet),
    )
    show(result, as_json, render)
