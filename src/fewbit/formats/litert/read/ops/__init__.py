"""The table of operators: one row for each that comes in, and reasons for those that do not."""

from __future__ import annotations

from fewbit.formats.litert.read.ops import (
    activations,
    conv,
    elementwise,
    join,
    matmul,
    pad,
    recurrent,
    reduce,
    resize,
    select,
    shape,
)
from fewbit.formats.litert.read.ops.row import Row

OPS: dict[str, Row] = {
    **activations.ROWS,
    **conv.ROWS,
    **elementwise.ROWS,
    **join.ROWS,
    **matmul.ROWS,
    **pad.ROWS,
    **recurrent.ROWS,
    **reduce.ROWS,
    **resize.ROWS,
    **select.ROWS,
    **shape.ROWS,
}
"""Builtin name → how it comes in."""

_VARIABLE = (
    "keeps numbers from run to run, and a hub has no state: export the model with its state as inputs and outputs"
)
_SUBGRAPH = "runs other subgraphs of the file, which are not imported: convert the model with its loops unrolled"
_STATE = "keeps a state of its own kind, for which ONNX has no operator"
_RANDOM = "makes random numbers, which could not be compared with the file's"
_STRINGS = "works on strings or tables of them, which a hub does not quantize: give the model the numbers instead"
_COMPLEX = "works on complex numbers, which no quantized kernel takes"

REFUSED: dict[str, str] = {
    "CUSTOM": "is no builtin operator: cut the model before it, or convert it without custom operators",
    "DELEGATE": "was compiled for one device: give the file that it was made from",
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"), _VARIABLE),
    **dict.fromkeys(("IF", "WHILE", "CALL"), _SUBGRAPH),
    **dict.fromkeys(("SVDF", "LSTM", "RNN", "BIDIRECTIONAL_SEQUENCE_RNN"), _STATE),
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), _RANDOM),
    **dict.fromkeys(
        ("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP", "LSH_PROJECTION"),
        _STRINGS,
    ),
    **dict.fromkeys(("RFFT2D", "IMAG", "REAL", "COMPLEX_ABS"), _COMPLEX),
    **dict.fromkeys(
        ("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"),
        "pads its answer to a fixed length, which ONNX's does not: cut the model before it, and select boxes outside",
    ),
}
"""Why an operator does not come in, and what to do."""

OTHERWISE = "has no counterpart in fewbit: cut the model before it, or convert it without that operator"
STABLEHLO = "is of StableHLO, for which LiteRT has reference kernels alone: convert the model to builtin operators"


def refusal(name: str) -> str:
    """Why an operator that has no row does not come in."""
    return REFUSED.get(name, STABLEHLO if name.startswith("STABLEHLO") else OTHERWISE)
