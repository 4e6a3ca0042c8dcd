"""Operators on each number."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.formats.litert.cases.table import IMAGE, add_case


def _unary(
    op: str, options: str | None = None, shape: tuple[int, ...] = IMAGE, dtype: str = "float32", **fields: Any
) -> Any:
    return lambda t: t.op(op, [t.input(shape, dtype)], shape, options, dtype=dtype, **fields)


for _op in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "ELU", "HARD_SWISH"):
    add_case(_op, _unary(_op), ranges={0: (-8, 8)})
for _op in ("ABS", "NEG", "SIGN", "EXP", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "ZEROS_LIKE"):
    add_case(_op, _unary(_op))
for _op in ("LOG", "SQRT", "RSQRT"):
    add_case(_op, _unary(_op), ranges={0: (0.1, 9)})
add_case("ABS int32", _unary("ABS", dtype="int32"))
add_case("LEAKY_RELU", _unary("LEAKY_RELU", "LeakyReluOptions", alpha=0.3))
add_case("GELU", _unary("GELU", "GeluOptions", approximate=False))
add_case("GELU tanh", _unary("GELU", "GeluOptions", approximate=True))
add_case("SOFTMAX", _unary("SOFTMAX", "SoftmaxOptions", beta=1.0))
add_case("SOFTMAX beta", _unary("SOFTMAX", "SoftmaxOptions", shape=(2, 7), beta=0.5))
add_case("LOG_SOFTMAX", _unary("LOG_SOFTMAX", "LogSoftmaxOptions"))
add_case("L2_NORMALIZATION", _unary("L2_NORMALIZATION", "L2NormOptions"))
add_case(
    "LOCAL_RESPONSE_NORMALIZATION",
    _unary(
        "LOCAL_RESPONSE_NORMALIZATION", "LocalResponseNormalizationOptions", radius=1, bias=1.0, alpha=0.5, beta=0.75
    ),
)
add_case("PRELU", lambda t: t.op("PRELU", [t.input(IMAGE), t.weight(1, 1, 4)], IMAGE))


def _binary(
    op: str,
    left: tuple[int, ...],
    right: tuple[int, ...],
    options: str | None = None,
    dtype: str = "float32",
    out: str | None = None,
    **f: Any,
) -> Any:
    shape = np.broadcast_shapes(left, right)
    return lambda t: t.op(op, [t.input(left, dtype), t.input(right, dtype)], shape, options, dtype=out or dtype, **f)


for _op, _options in (("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions"), ("DIV", "DivOptions")):
    _far = {1: (0.5, 2)}
    add_case(_op, _binary(_op, IMAGE, IMAGE, _options), ranges=_far)
    add_case(f"{_op} fused", _binary(_op, IMAGE, IMAGE, _options, fusedActivationFunction=3), ranges=_far)
    add_case(f"{_op} broadcast", _binary(_op, IMAGE, (1, 1, 1, 4), _options), ranges=_far)
    add_case(f"{_op} lower rank", _binary(_op, IMAGE, (8, 4), _options), ranges=_far)
    add_case(f"{_op} scalar", _binary(_op, IMAGE, (), _options), ranges=_far)
    add_case(f"{_op} int32", _binary(_op, (5,), (5,), _options, dtype="int32"), ranges={0: (-20, 20), 1: (1, 5)})
for _rows in ((4,), (8, 4), (6, 8, 4), (1, 6, 8, 1), (1,), (1, 6, 1, 4)):
    add_case(
        f"ADD constant {_rows}",
        lambda t, rows=_rows: t.op(
            "ADD", [t.input(IMAGE), t.weight(*rows)], IMAGE, "AddOptions", fusedActivationFunction=1
        ),
    )
add_case("ADD constant first", lambda t: t.op("ADD", [t.weight(8, 4), t.input(IMAGE)], IMAGE, "AddOptions"))
for _op in ("MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
    add_case(_op, _binary(_op, IMAGE, IMAGE))
    add_case(f"{_op} broadcast", _binary(_op, IMAGE, (1, 1, 8, 1)))
add_case("MAXIMUM int32", _binary("MAXIMUM", (5,), (5,), dtype="int32"))
add_case("POW", _binary("POW", IMAGE, IMAGE), ranges={0: (0.2, 3), 1: (-2, 2)})
add_case("FLOOR_DIV", _binary("FLOOR_DIV", IMAGE, IMAGE), ranges={0: (-9, 9), 1: (0.5, 3)})
add_case("FLOOR_DIV int32", _binary("FLOOR_DIV", (40,), (40,), dtype="int32"), ranges={0: (-20, 20), 1: (-7, -1)})
add_case("FLOOR_MOD", _binary("FLOOR_MOD", IMAGE, IMAGE), ranges={0: (-9, 9), 1: (-3, -0.5)})
add_case("FLOOR_MOD positive", _binary("FLOOR_MOD", IMAGE, IMAGE), ranges={0: (-9, 9), 1: (0.5, 3)})
add_case("FLOOR_MOD int32", _binary("FLOOR_MOD", (40,), (40,), dtype="int32"), ranges={0: (-20, 20), 1: (-7, -1)})
add_case("ATAN2", _binary("ATAN2", (64,), (64,)))
add_case("ADD_N", lambda t: t.op("ADD_N", [t.input(IMAGE) for _ in range(3)], IMAGE, "AddNOptions"))
add_case(
    "ADD_N int32",
    lambda t: t.op("ADD_N", [t.input((3,), "int32") for _ in range(3)], (3,), "AddNOptions", dtype="int32"),
)
for _op in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"):
    add_case(_op, _binary(_op, (40,), (40,), dtype="int32", out="bool"), ranges={0: (0, 3), 1: (0, 3)})
    add_case(f"{_op} float", _binary(_op, IMAGE, (1, 1, 1, 4), out="bool"))
for _op in ("LOGICAL_AND", "LOGICAL_OR"):
    add_case(_op, _binary(_op, (16,), (16,), dtype="bool"))
add_case("LOGICAL_NOT", _unary("LOGICAL_NOT", shape=(16,), dtype="bool"))
add_case("BITWISE_XOR", _binary("BITWISE_XOR", (16,), (16,), dtype="int32"), ranges={0: (0, 99), 1: (0, 99)})
add_case("RIGHT_SHIFT", _binary("RIGHT_SHIFT", (40,), (40,), dtype="int32"), ranges={0: (-99, 99), 1: (0, 5)})


def _choose(op: str, condition: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    return lambda t: t.op(op, [t.input(condition, "bool"), t.input(shape), t.input(shape)], shape)


add_case("SELECT", _choose("SELECT", IMAGE, IMAGE))
add_case("SELECT rows", _choose("SELECT", (5,), (5, 3)))
add_case("SELECT_V2", _choose("SELECT_V2", (1, 6, 1, 1), IMAGE))
add_case("WHERE", lambda t: t.op("WHERE", [t.input((3, 4), "bool")], (0, 2), dtype="int64"))
for _to in ("int32", "int64", "float32", "bool"):
    add_case(f"CAST to {_to}", lambda t, to=_to: t.op("CAST", [t.input((3, 5), "int32")], (3, 5), dtype=to), op="CAST")
add_case("CAST from float", lambda t: t.op("CAST", [t.input(IMAGE)], IMAGE, dtype="int32"))
add_case(
    "BROADCAST_ARGS",
    lambda t: t.op("BROADCAST_ARGS", [t.input((3,), "int32"), t.constant([2, 1, 5])], (3,), dtype="int32"),
    ranges={0: (1, 1)},
)
