"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArg = Annotated[Path, typer.Argument(metavar="MODEL", help="The model file (.onnx).", show_default=False)]
DataOpt = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        show_default=False,
        help='Samples: an .npz, a folder of .npz or images, or FILE.py:NAME("literal").',
    ),
]
PreprocessOpt = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="PRESET|YAML",
        help="How images become inputs: imagenet, yolox, raw …",
        show_default=False,
    ),
]
LimitOpt = Annotated[
    int | None,
    typer.Option("--limit", "--samples", min=1, metavar="N", help="Use the first N samples.", show_default=False),
]
TargetOpt = Annotated[
    str, typer.Option("--target", metavar="T", help="Where the model will run: a name of `fewbit targets list`.")
]
RecipeOpt = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="NAME|FILE", help="int8, int8-dynamic, int8-weights, fp16, a16w8, or a YAML or JSON file."
    ),
]
ExcludeOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="OP|PATTERN",
        help="Leave these op types or node names in float; repeatable.",
        show_default=False,
    ),
]
BaselineOpt = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="FLOAT", help="The float model to compare with.", show_default=False),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]
