"""fewbit eval"""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.options import BaselineOpt, JsonOpt, LimitOpt, ModelArg, PreprocessOpt, QuietOpt


def command(
    model: ModelArg,
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
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure a task metric, next to the float model on the same samples."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.evaluate import evaluate
    from fewbit.report.evaluate import render

    result = evaluate(
        model,
        source,
        metric,
        baseline=baseline,
        limit=limit,
        preprocess=preprocess,
        threads=threads,
        progress=progress_for(quiet),
    )
    show(result, as_json, render)
