"""fewbit data"""

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
    PreprocessOpt,
    QuietOpt,
    SignatureOpt,
    import_options,
)

app = typer.Typer(help="Samples: whether they serve a model, and which to calibrate on.")

SourceArg = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help='Samples: an .npz, a folder of .npz or images, or FILE.py:NAME("literal").',
        show_default=False,
    ),
]
ForModelOpt = Annotated[
    Path, typer.Option("--model", metavar="MODEL", help="The float model that they are for.", show_default=False)
]


@app.command("check")
def check(
    source: SourceArg,
    model: ForModelOpt,
    evaluation: Annotated[
        str | None,
        typer.Option("--eval", metavar="SRC", help="Samples that none of these may be among.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="M", help="Try by this metric whether the labels belong.", show_default=False),
    ] = None,
    preprocess: PreprocessOpt = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Look for what is wrong with samples: copies, leaks, values unlike those in training, too few, wrong labels."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.data import check_data
    from fewbit.report.data import render_check

    result = check_data(
        model,
        source,
        evaluation=evaluation,
        metric=metric,
        preprocess=preprocess,
        importing=import_options(input_shape, dynamic, factory, allow_pickle, signature),
        progress=progress_for(quiet),
    )
    show(result, as_json, render_check)


@app.command("select")
def select(
    source: SourceArg,
    model: ForModelOpt,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT.npz", help="Where they go: an .npz, or a new folder.", show_default=False
        ),
    ],
    count: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many to choose.", show_default=False)],
    preprocess: PreprocessOpt = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the 4096 that are looked at where there are more.")] = 0,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Choose the samples that stand best for all, for calibration."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.data import select_data
    from fewbit.report.data import render_selection

    result = select_data(
        model,
        source,
        out,
        count,
        preprocess=preprocess,
        seed=seed,
        importing=import_options(input_shape, dynamic, factory, allow_pickle, signature),
        progress=progress_for(quiet),
    )
    show(result, as_json, render_selection)
