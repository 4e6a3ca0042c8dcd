"""fewbit auto"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    DataOpt,
    DynamicOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    LimitOpt,
    ModelArg,
    PreprocessOpt,
    QuietOpt,
    SignatureOpt,
    TargetOpt,
    import_options,
)


def command(
    model: ModelArg,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for what is found.", show_default=False)
    ],
    data: DataOpt = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval",
            metavar="SRC",
            show_default=False,
            help="Labelled samples, for the search and the verdict (without: agreement with the float model, on --data).",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="M", help="top1, auc, map … or FILE.py:NAME.", show_default=False),
    ] = None,
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify",
            metavar="SRC",
            show_default=False,
            help="Labelled samples for the verdict alone (without: some of --eval).",
        ),
    ] = None,
    target: TargetOpt = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="X",
            show_default=False,
            help="What may be lost: 0.5pt (points), 1% (of float), or a number in the metric's unit (half a point, or 1 %).",
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="WHAT",
            help="What to make small: latency, size, energy, or weights: latency=2,size=1.",
        ),
    ] = "latency",
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Stop after 90s, 10m, 1h …", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the session in DIR.")] = False,
    max_size: Annotated[
        str | None, typer.Option("--max-size", metavar="SIZE", help="500kB, 1.5MB …", show_default=False)
    ] = None,
    max_latency_ratio: Annotated[
        float | None,
        typer.Option(
            "--max-latency-ratio", metavar="R", help="Of the float model's time: 0.5 is half.", show_default=False
        ),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="SIZE", help="Peak of a run: 2MB …", show_default=False)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Choose only what is proved to keep to the drop, not what is undecided.")
    ] = False,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe", metavar="NAME|FILE", help="Try these instead of the usual ones; repeatable.", show_default=False
        ),
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", metavar="P", help="Of the verdict.")] = 0.95,
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the division of samples.")] = 0,
    workers: Annotated[str, typer.Option("--workers", metavar="N|ray://…|auto", help="Pieces of work at once.")] = "1",
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            show_default=False,
            help="What one piece of work may take, as it may hang (30m).",
        ),
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option("--session", metavar="DIR", help="Keep measurements here.", show_default=False),
    ] = None,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find the best quantized form of a model for a target, within what can be tolerated, and prove it."""
    from fewbit.cli.live import live
    from fewbit.cli.output import show
    from fewbit.errors import ConstraintError
    from fewbit.flow.auto.auto import auto
    from fewbit.report.auto import render

    options = import_options(input_shape, dynamic, factory, allow_pickle, signature)
    with _told_how_to_go_on(out), live(quiet or as_json) as (progress, changed):
        result = auto(
            model,
            data,
            evaluation,
            metric,
            target,
            max_drop,
            objective,
            budget,
            session,
            out=out,
            resume=resume,
            certification=certify,
            max_size=max_size,
            max_latency_ratio=max_latency_ratio,
            max_memory=max_memory,
            strict=strict,
            recipes=recipe or (),
            confidence=confidence,
            limit=limit,
            preprocess=preprocess,
            seed=seed,
            workers=workers,
            timeout=timeout,
            example_inputs=options.example_inputs,
            dynamic_shapes=options.dynamic_shapes,
            factory=factory,
            allow_pickle=allow_pickle,
            signature=signature,
            command=shlex.join(["fewbit", *sys.argv[1:]]),
            progress=progress,
            changed=changed,
        )
    show(result, as_json, render)
    if result.path is None:
        raise ConstraintError(
            f"no candidate meets what was asked ({result.document['verdict']['sentence']}); {out}/report.html has all "
            "that were tried"
        )


@contextmanager
def _told_how_to_go_on(out: Path) -> Iterator[None]:
    """On an interruption, say what is not lost."""
    try:
        yield
    except KeyboardInterrupt:
        if out.exists():
            sys.stderr.write(f"fewbit: what is finished is kept in {out}: the same command with --resume goes on\n")
        raise
