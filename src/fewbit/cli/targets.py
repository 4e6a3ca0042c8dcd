"""fewbit targets"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import JsonOpt

app = typer.Typer(help="What can be quantized for: runtimes on kinds of machines.")


@app.command("list")
def list_(as_json: JsonOpt = False) -> None:
    """The targets."""
    from fewbit.cli.output import show
    from fewbit.report.targets import render_list
    from fewbit.targets import TARGETS

    rows = [
        {"name": t.name, "runtime": t.runtime, "format": t.format, "description": t.description}
        for t in TARGETS.values()
    ]
    show({"targets": rows}, as_json, render_list)


@app.command("show")
def show_(name: Annotated[str, typer.Argument(metavar="TARGET")], as_json: JsonOpt = False) -> None:
    """What one target's kernels take, for each op."""
    from fewbit.cli.output import show
    from fewbit.flow.common import target_for
    from fewbit.report.targets import render_target

    show(target_for(name), as_json, render_target)
