"""fewbit demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import JsonOpt, QuietOpt


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the files go.")] = Path("fewbit-demo"),
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Quantize a small network that comes with fewbit, and see what it gains and costs."""
    from fewbit.cli.output import progress_for, show
    from fewbit.demo import CALIBRATION, EVALUATION, MODEL
    from fewbit.errors import OutputError
    from fewbit.flow.benchmark import benchmark
    from fewbit.flow.evaluate import evaluate
    from fewbit.flow.quantize import quantize
    from fewbit.report.demo import render

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error.strerror}") from error
    progress, path = progress_for(quiet), out / "digits-int8.onnx"
    made = quantize(MODEL, CALIBRATION, "int8", out=path, progress=progress)
    made.plan.save(str(out / "digits-int8.plan.json"))
    scored = evaluate(path, EVALUATION, "top1", baseline=MODEL, progress=progress)
    timed = benchmark(path, baseline=MODEL, data=EVALUATION, progress=progress)
    show({"quantize": made.to_dict(), "eval": scored.to_dict(), "bench": timed.to_dict()}, as_json, render)
