"""fewbit eval"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    BaselineOpt,
    DynamicOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    LimitOpt,
    PreprocessOpt,
    QuietOpt,
    RunnableArg,
    import_options,
)


def command(
    model: RunnableArg,
    source: Annotated[
        str, typer.Option("--eval", "--data", metavar="SRC", help="Labelled samples.", show_default=False)
    ],
    metric: Annotated[
        str, typer.Option("--metric", metavar="M", help="top1, auc, map … or FILE.py:NAME.", show_default=False)
    ],
    baseline: BaselineOpt = None,
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    threads: Annotated[int, typer.Option("--threads", min=0, help="Threads; 0 lets the runtime choose.")] = 0,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure a task metric, next to the float model on the same samples."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.evaluate import evaluate
    from fewbit.flow.opening import open_models
    from fewbit.report.evaluate import render

    options = import_options(input_shape, dynamic, factory, allow_pickle)
    opened, other = open_models([model, baseline], options, source, progress_for(quiet), to_run=True)
    result = evaluate(
        opened,
        source,
        metric,
        baseline=other,
        limit=limit,
        preprocess=preprocess,
        threads=threads,
        progress=progress_for(quiet),
    )
    show(result, as_json, render)
