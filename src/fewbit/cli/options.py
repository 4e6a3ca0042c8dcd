"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fewbit.flow.opening import ImportOptions

ModelArg = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The model file: ONNX, PyTorch (docs/pytorch.md) or LiteRT (docs/litert.md).",
        show_default=False,
    ),
]
RunnableArg = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="The model file: ONNX, LiteRT, or PyTorch (docs/runtimes.md).", show_default=False
    ),
]
DataOpt = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        show_default=False,
        help='Samples: an .npz, a folder of .npz or images, or FILE.py:NAME("literal").',
    ),
]
OrSyntheticOpt = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        show_default=False,
        help='Samples: an .npz, a folder of .npz or images, FILE.py:NAME("literal"), or synthetic: made for the model.',
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
    str | None,
    typer.Option(
        "--target",
        metavar="T",
        show_default=False,
        help="Where the model will run: a name of `fewbit targets list` (ort-cpu, or by the ending of OUT).",
    ),
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
    typer.Option(
        "--baseline", metavar="FLOAT", help="The float model to compare with, of any format.", show_default=False
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")]

InputShapeOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="NAME=SHAPE[:DTYPE]",
        show_default=False,
        help="PyTorch: an example input, such as image=1x3x224x224 or ids=1x128:int64; repeatable (the first sample).",
    ),
]
DynamicOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--dynamic",
        metavar="NAME:AXIS=SIZE",
        show_default=False,
        help="PyTorch: an axis of any size, such as ids:1=sequence; repeatable (the first of all inputs).",
    ),
]
FactoryOpt = Annotated[
    str | None,
    typer.Option(
        "--factory",
        metavar='FILE.py:NAME("literal")',
        show_default=False,
        help="PyTorch: for a file of weights, what builds the module.",
    ),
]
AllowPickleOpt = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="PyTorch: unpickle a file that runs code when it is loaded. The code can do whatever you can.",
    ),
]

SignatureOpt = Annotated[
    str | None,
    typer.Option(
        "--signature",
        metavar="NAME",
        show_default=False,
        help="LiteRT: which signature or subgraph of a file with several (the first).",
    ),
]


def import_options(
    shapes: list[str] | None,
    dynamic: list[str] | None,
    factory: str | None,
    allow_pickle: bool,
    signature: str | None = None,
) -> ImportOptions:
    """How models of other formats are imported, by these options."""
    from fewbit.flow.opening import ImportOptions
    from fewbit.formats.torch.texts import axes_from_texts, shapes_from_texts

    return ImportOptions(
        shapes_from_texts(shapes) if shapes else None,
        axes_from_texts(dynamic) if dynamic else None,
        factory,
        allow_pickle,
        signature,
    )
