"""fewbit tune"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fewbit.cli.options import (
    ExcludeOpt,
    JsonOpt,
    LimitOpt,
    ModelArg,
    OrSyntheticOpt,
    PreprocessOpt,
    QuietOpt,
    RecipeOpt,
    TargetOpt,
)


def command(
    model: ModelArg,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The file to write.", show_default=False)],
    data: OrSyntheticOpt = None,
    recipe: RecipeOpt = "w4a8",
    target: TargetOpt = None,
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    exclude: ExcludeOpt = None,
    effort: Annotated[
        Literal["fast", "standard", "max"], typer.Option("--effort", help="Of the quantization before the training.")
    ] = "standard",
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--time", metavar="15m", show_default=False, help="For everything (with --resume: for this call)."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, show_default=False, help="Passes over the samples (20).")
    ] = None,
    block_updates: Annotated[
        int | None,
        typer.Option(
            "--block-updates",
            min=0,
            show_default=False,
            help="Of each block, before the whole learns; 0 for none (300).",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Samples an update.")] = 32,
    augment: Annotated[
        int,
        typer.Option(
            "--augment",
            min=0,
            metavar="N",
            help="Further samples, made of those given: mixtures, or texts that a language model writes on.",
        ),
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of samples and of those held back.")] = 0,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss", metavar="FILE.py:NAME", show_default=False, help="Your own, of outputs, float outputs and labels."
        ),
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option("--session", metavar="DIR", show_default=False, help="Write checkpoints to this folder."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the session folder.")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to train.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of training and runtime.")] = 1,
    keep_names: Annotated[bool, typer.Option("--keep-names", help="Keep inner names, for `fewbit compare`.")] = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Quantize a model and train it, without labels, to give what the float model gives."""
    from fewbit.cli.output import progress_for, show
    from fewbit.flow.tune import tune
    from fewbit.report.tune import render

    result = tune(
        model,
        data,
        recipe,
        target,
        out,
        limit=limit,
        preprocess=preprocess,
        effort=effort,
        epochs=epochs,
        block_updates=block_updates,
        time_limit=time_limit,
        batch=batch,
        augment=augment,
        seed=seed,
        loss=loss,
        session=session,
        resume=resume,
        device=device,
        exclude=exclude or (),
        keep_names=keep_names,
        threads=threads,
        progress=progress_for(quiet),
    )
    show(result, as_json, render)
