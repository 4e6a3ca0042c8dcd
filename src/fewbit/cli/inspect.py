"""fewbit inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    DynamicOpt,
    ExcludeOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    ModelArg,
    SignatureOpt,
    TargetOpt,
    import_options,
)


def command(
    model: ModelArg,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE", help="Show the plan of this recipe.", show_default=False),
    ] = None,
    target: TargetOpt = None,
    plan: Annotated[Path | None, typer.Option("--plan", help="Show this stored plan.", show_default=False)] = None,
    exclude: ExcludeOpt = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Describe a model, and what a recipe would do with every node and why."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.inspect import inspect
    from fewbit.flow.opening import open_models
    from fewbit.report.inspect import render

    options = import_options(input_shape, dynamic, factory, allow_pickle, signature)
    opened = open_models([model], options, progress=progress_for(quiet=False))[0]
    show(inspect(opened, recipe=recipe, target=target or "ort-cpu", plan=plan, exclude=exclude or ()), as_json, render)
