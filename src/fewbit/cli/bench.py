"""fewbit bench"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    BaselineOpt,
    DataOpt,
    DynamicOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    PreprocessOpt,
    QuietOpt,
    RunnableArg,
    TargetOpt,
    import_options,
)


def command(
    model: RunnableArg,
    baseline: BaselineOpt = None,
    data: DataOpt = None,
    target: TargetOpt = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Batch size; repeatable (1).", show_default=False)
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="Threads; repeatable (1).", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Rounds of timing, in turns.")] = 15,
    preprocess: PreprocessOpt = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Time a model and measure its memory, in turns with the float model."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.benchmark import benchmark
    from fewbit.flow.opening import open_models
    from fewbit.report.benchmark import render

    options = import_options(input_shape, dynamic, factory, allow_pickle)
    opened, other = open_models([model, baseline], options, data, progress_for(quiet), to_run=True)
    result = benchmark(
        opened,
        baseline=other,
        data=data,
        target=target or "ort-cpu",
        batch=batch or (1,),
        threads=threads or (1,),
        rounds=rounds,
        preprocess=preprocess,
        progress=progress_for(quiet),
    )
    show(result, as_json, render)
