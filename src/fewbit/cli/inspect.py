"""fewbit inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import ExcludeOpt, JsonOpt, ModelArg, TargetOpt


def command(
    model: ModelArg,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME|FILE", help="Show the plan of this recipe.", show_default=False),
    ] = None,
    target: TargetOpt = "ort-cpu",
    plan: Annotated[Path | None, typer.Option("--plan", help="Show this stored plan.", show_default=False)] = None,
    exclude: ExcludeOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Describe a model, and what a recipe would do with every node and why."""
    from fewbit.cli.output import show
    from fewbit.flow.inspect import inspect
    from fewbit.report.inspect import render

    show(inspect(model, recipe=recipe, target=target, plan=plan, exclude=exclude or ()), as_json, render)
