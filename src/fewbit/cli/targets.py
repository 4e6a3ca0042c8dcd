"""fewbit targets"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import JsonOpt, QuietOpt

app = typer.Typer(help="What can be quantized for: runtimes on kinds of machines.")

NameArg = Annotated[str, typer.Argument(metavar="TARGET", help="A name that `fewbit targets list` shows.")]


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
def show_(name: NameArg, as_json: JsonOpt = False) -> None:
    """What one target's kernels take, for each op."""
    from fewbit.cli.output import show
    from fewbit.flow.common import target_for
    from fewbit.report.targets import render_target

    show(target_for(name), as_json, render_target)


@app.command("probe")
def probe_(name: NameArg = "ort-cpu", as_json: JsonOpt = False, quiet: QuietOpt = False) -> None:
    """Check what a target says against its runtime on this machine; the exit code is 0 only if all of it is so."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.probe import probe
    from fewbit.report.targets import render_probe

    result = probe(name, progress=progress_for(quiet))
    show(result, as_json, render_probe)
    if not result.ok:
        raise typer.Exit(1)
