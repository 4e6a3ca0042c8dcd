"""fewbit quantize"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fewbit.cli.options import (
    AllowPickleOpt,
    DynamicOpt,
    ExcludeOpt,
    FactoryOpt,
    InputShapeOpt,
    JsonOpt,
    LimitOpt,
    ModelArg,
    OrSyntheticOpt,
    PreprocessOpt,
    QuietOpt,
    RecipeOpt,
    SignatureOpt,
    TargetOpt,
    import_options,
)


def command(
    model: ModelArg,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="The file to write.", show_default=False)],
    recipe: RecipeOpt = "int8",
    data: OrSyntheticOpt = None,
    target: TargetOpt = None,
    limit: LimitOpt = None,
    preprocess: PreprocessOpt = None,
    exclude: ExcludeOpt = None,
    effort: Annotated[Literal["fast", "standard", "max"], typer.Option("--effort", help="How far to go.")] = "standard",
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Use this plan, perhaps edited, as it is.", show_default=False)
    ] = None,
    save_plan: Annotated[
        Path | None, typer.Option("--save-plan", help="Write the plan here.", show_default=False)
    ] = None,
    format_: Annotated[
        Literal["onnx", "litert", "executorch"] | None,
        typer.Option(
            "--format",
            show_default=False,
            help="The file format to write (that of the target, or of the ending of OUT).",
        ),
    ] = None,
    io: Annotated[
        Literal["float", "int8"] | None,
        typer.Option(
            "--io",
            show_default=False,
            help="What a LiteRT file takes and gives: real numbers, or stored integers (by the target).",
        ),
    ] = None,
    min_sqnr: Annotated[
        float | None,
        typer.Option(
            "--min-sqnr",
            min=0,
            metavar="DB",
            show_default=False,
            help="Return layers to float until every output keeps this SQNR against float (20, where it is cheap; 0: never).",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            metavar="N",
            show_default=False,
            help="Calibrate on up to N samples at once, where the model takes batches (8).",
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the calibration pass.")] = 1,
    keep_names: Annotated[bool, typer.Option("--keep-names", help="Keep inner names, for `fewbit compare`.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not load and run the result.")] = False,
    input_shape: InputShapeOpt = None,
    dynamic: DynamicOpt = None,
    factory: FactoryOpt = None,
    allow_pickle: AllowPickleOpt = False,
    signature: SignatureOpt = None,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Quantize a model, check the result in the runtime, and say what was done."""
    from fewbit.cli.output import progress_for, show
    from fewbit.errors import OutputError
    from fewbit.flow.quantize import quantize
    from fewbit.report.quantize import render

    if save_plan is not None and not save_plan.absolute().parent.is_dir():
        raise OutputError(f"{save_plan} cannot be written: the folder {save_plan.parent} does not exist")
    options = import_options(input_shape, dynamic, factory, allow_pickle, signature)
    result = quantize(
        model,
        data,
        recipe,
        target,
        out,
        format=format_,
        io=io,
        limit=limit,
        preprocess=preprocess,
        plan=plan,
        effort=effort,
        exclude=exclude or (),
        keep_names=keep_names,
        verify=not no_verify,
        min_sqnr=min_sqnr,
        batch=batch,
        threads=threads,
        example_inputs=options.example_inputs,
        dynamic_shapes=options.dynamic_shapes,
        factory=factory,
        allow_pickle=allow_pickle,
        signature=signature,
        progress=progress_for(quiet),
    )
    if save_plan is not None:
        result.plan.save(str(save_plan))
    show(result, as_json, render)
