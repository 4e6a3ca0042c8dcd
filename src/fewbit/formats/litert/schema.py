"""The schema of .tflite files: its generated classes, loaded on first use, and the names that both doors need."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

from fewbit.extras import load_extra
from fewbit.formats.litert import kinds

IDENTIFIER = kinds.IDENTIFIER
"""At byte 4 of every file."""

VERSION = 3
"""Of the schema, as files state it."""

TENSOR_TYPES: dict[int, ir.DataType] = {
    0: ir.DataType.FLOAT,
    1: ir.DataType.FLOAT16,
    2: ir.DataType.INT32,
    3: ir.DataType.UINT8,
    4: ir.DataType.INT64,
    5: ir.DataType.STRING,
    6: ir.DataType.BOOL,
    7: ir.DataType.INT16,
    8: ir.DataType.COMPLEX64,
    9: ir.DataType.INT8,
    10: ir.DataType.DOUBLE,
    11: ir.DataType.COMPLEX128,
    12: ir.DataType.UINT64,
    15: ir.DataType.UINT32,
    16: ir.DataType.UINT16,
    17: ir.DataType.INT4,
    18: ir.DataType.BFLOAT16,
    19: ir.DataType.INT2,
    20: ir.DataType.UINT4,
    21: ir.DataType.FLOAT8E4M3FN,
    22: ir.DataType.FLOAT8E5M2,
}
"""TensorType → the hub's dtype (`.numpy()` is numpy's). RESOURCE (13) and VARIANT (14) have no counterpart."""

TENSOR_CODES: dict[ir.DataType, int] = {dtype: code for code, dtype in TENSOR_TYPES.items()}
"""The same the other way round."""

ACTIVATIONS: dict[int, str] = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
"""ActivationFunctionType: what is fused into an operator."""

PADDINGS: dict[int, str] = {0: "SAME", 1: "VALID"}

CUSTOM = 32
"""The builtin code of operators that only their name tells."""

OLD_CODES_END = 127
"""Operators with codes below it are also in the byte `deprecated_builtin_code`; those above have this number there."""


def schema() -> Any:
    """The module of the generated classes: `Model`, `ModelT`, `Tensor` ...

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    return load_extra("ai_edge_litert.schema_py_generated", "a LiteRT model")


@cache
def operator_names() -> dict[int, str]:
    """Builtin code → name, such as 3 → CONV_2D."""
    return _constants("BuiltinOperator")


@cache
def operator_codes() -> dict[str, int]:
    """Name → builtin code."""
    return {name: code for code, name in operator_names().items()}


@cache
def options_types() -> dict[int, str]:
    """Number of the union BuiltinOptions → name of the table, such as 1 → Conv2DOptions; 0 → NONE."""
    return _constants("BuiltinOptions")


def _constants(enum: str) -> dict[int, str]:
    members = vars(getattr(schema(), enum))
    return {code: name for name, code in members.items() if isinstance(code, int)}
