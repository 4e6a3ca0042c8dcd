"""Operators on each number, alone or with others that broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.ops.row import Handler, Row, activated, aligned, cast, is_float, layout_of


def unary(op_type: str, **attributes: Any) -> Handler:
    """An operator of ONNX that does the same."""

    def handler(b: Builder, op: Operator, options: Any) -> None:
        layout = layout_of(b, op.inputs[0])
        b.put(op.outputs[0], b.emit(op_type, [b.real(op.inputs[0], layout)], **attributes), layout)

    return handler


def binary(op_type: str) -> Handler:
    """An operator of ONNX on two tensors that does the same, and the activation that is fused into it."""

    def handler(b: Builder, op: Operator, options: Any) -> None:
        layout, values = aligned(b, op.inputs[:2])
        value = b.emit(op_type, values)
        fused = getattr(options, "fusedActivationFunction", 0)
        b.put(op.outputs[0], activated(b, op, value, fused), layout)

    return handler


def _add_n(b: Builder, op: Operator, options: Any) -> None:
    layout, values = aligned(b, op.inputs)
    b.put(op.outputs[0], b.emit("Sum", values) if is_float(b, op.inputs[0]) else _chain(b, values), layout)


def _chain(b: Builder, values: list[ir.Value]) -> ir.Value:
    """Sum is for floats alone."""
    total = values[0]
    for value in values[1:]:
        total = b.emit("Add", [total, value])
    return total


def _square(b: Builder, op: Operator, options: Any) -> None:
    layout = layout_of(b, op.inputs[0])
    value = b.real(op.inputs[0], layout)
    b.put(op.outputs[0], b.emit("Mul", [value, value]), layout)


def _rsqrt(b: Builder, op: Operator, options: Any) -> None:
    layout = layout_of(b, op.inputs[0])
    root = b.emit("Sqrt", [b.real(op.inputs[0], layout)])
    b.put(op.outputs[0], b.emit("Reciprocal", [root]), layout)


def _squared_difference(b: Builder, op: Operator, options: Any) -> None:
    layout, values = aligned(b, op.inputs[:2])
    difference = b.emit("Sub", values)
    b.put(op.outputs[0], b.emit("Mul", [difference, difference]), layout)


def _floor_div(b: Builder, op: Operator, options: Any) -> None:
    """Rounded down; ONNX's Div of integers rounds towards zero."""
    layout, (left, right) = aligned(b, op.inputs[:2])
    if is_float(b, op.inputs[0]):
        value = b.emit("Floor", [b.emit("Div", [left, right])])
    else:
        value = b.emit("Div", [b.emit("Sub", [left, b.emit("Mod", [left, right])]), right])
    b.put(op.outputs[0], value, layout)


def _floor_mod(b: Builder, op: Operator, options: Any) -> None:
    """The rest has the sign of the divisor, as ONNX's Mod has for integers; for floats it has the dividend's."""
    layout, (left, right) = aligned(b, op.inputs[:2])
    if is_float(b, op.inputs[0]):
        rest = b.emit("Mod", [left, right], fmod=1)
        zero = np.float32(0)
        other_sign = b.emit("Xor", [b.emit("Less", [rest, zero]), b.emit("Less", [right, zero])])
        wrong = b.emit("And", [other_sign, b.emit("Not", [b.emit("Equal", [rest, zero])])])
        value = b.emit("Where", [wrong, b.emit("Add", [rest, right]), rest])
    else:
        value = b.emit("Mod", [left, right])
    b.put(op.outputs[0], value, layout)


def _not_equal(b: Builder, op: Operator, options: Any) -> None:
    layout, values = aligned(b, op.inputs[:2])
    b.put(op.outputs[0], b.emit("Not", [b.emit("Equal", values)]), layout)


def _atan2(b: Builder, op: Operator, options: Any) -> None:
    """atan(y / x), and half a turn more or less where x is negative."""
    layout, (y, x) = aligned(b, op.inputs[:2])
    zero, pi = np.float32(0), np.float32(np.pi)
    angle = b.emit("Atan", [b.emit("Div", [y, x])])
    turned = b.emit("Where", [b.emit("Less", [y, zero]), b.emit("Sub", [angle, pi]), b.emit("Add", [angle, pi])])
    at_zero = b.emit("Mul", [b.emit("Sign", [y]), np.float32(np.pi / 2)])
    value = b.emit("Where", [b.emit("Less", [x, zero]), turned, angle])
    b.put(op.outputs[0], b.emit("Where", [b.emit("Equal", [x, zero]), at_zero, value]), layout)


def _select(b: Builder, op: Operator, options: Any) -> None:
    """A condition of one axis chooses rows of operands of more."""
    condition, rank = op.inputs[0], b.rank(op.inputs[1])
    if b.rank(condition) == 1 and rank is not None and rank > 1:
        value = b.emit("Unsqueeze", [b.real(condition), list(range(1, rank))])
        chosen = b.emit("Where", [value, b.real(op.inputs[1]), b.real(op.inputs[2])])
        b.put(op.outputs[0], chosen)
        return
    _select_v2(b, op, options)


def _select_v2(b: Builder, op: Operator, options: Any) -> None:
    layout, values = aligned(b, op.inputs[:3])
    b.put(op.outputs[0], b.emit("Where", values), layout)


def _where(b: Builder, op: Operator, options: Any) -> None:
    """The places of what is not zero, a row each."""
    places = b.emit("NonZero", [b.real(op.inputs[0])])
    value = b.emit("Transpose", [places], perm=[1, 0])
    if b.tensor(op.outputs[0]).dtype == ir.DataType.INT32:
        value = cast(b, value, ir.DataType.INT32)
    b.put(op.outputs[0], value)


def _cast(b: Builder, op: Operator, options: Any) -> None:
    """From what is stored to what is stored: scales do not count."""
    dtype = b.tensor(op.outputs[0]).dtype
    if dtype is None or dtype in (ir.DataType.STRING, ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        raise b.refuse(op, f"gives {dtype.name if dtype else 'a resource'}, which ONNX's Cast does not")
    layout = layout_of(b, op.inputs[0])
    b.put_stored(op.outputs[0], cast(b, b.stored(op.inputs[0], layout), dtype), layout)


def _zeros_like(b: Builder, op: Operator, options: Any) -> None:
    layout = layout_of(b, op.inputs[0])
    dtype = b.tensor(op.outputs[0]).dtype
    if dtype is None:
        raise b.refuse(op, "gives a resource or variant, which has no counterpart")
    kind = np.float32 if is_float(b, op.outputs[0]) and dtype.bitwidth != 64 else dtype.numpy()
    shape = b.emit("Shape", [b.stored(op.inputs[0], layout)])
    zeros = b.emit("ConstantOfShape", [shape], value=ir.Tensor(np.zeros(1, kind)))
    b.put(op.outputs[0], zeros, layout)


def _right_shift(b: Builder, op: Operator, options: Any) -> None:
    """Arithmetic, which BitShift is not: the quotient rounded down."""
    layout, (left, right) = aligned(b, op.inputs[:2])
    dtype = b.tensor(op.inputs[0]).dtype or ir.DataType.INT32
    two = b.constant(np.array(2, np.int64), "two")
    power = b.emit("Pow", [two, cast(b, right, ir.DataType.INT64)])
    wide = cast(b, left, ir.DataType.INT64)
    value = b.emit("Div", [b.emit("Sub", [wide, b.emit("Mod", [wide, power])]), power])
    b.put(op.outputs[0], cast(b, value, dtype), layout)


def _convert(b: Builder, op: Operator, options: Any) -> None:
    """QUANTIZE and DEQUANTIZE: the tensor's own quantization, or its end, does it. Constants are handed on as they are."""
    if b.hand_on(op.inputs[0], op.outputs[0]):
        return
    layout = layout_of(b, op.inputs[0])
    value = b.real(op.inputs[0], layout)
    before, after = b.tensor(op.inputs[0]).dtype, b.tensor(op.outputs[0]).dtype
    if after is not None and before != after and b.quantization(op.inputs[0]) is None and after.is_floating_point():
        value = cast(b, value, after)
    b.put(op.outputs[0], value, layout)


def _broadcast_args(b: Builder, op: Operator, options: Any) -> None:
    """The shape that two shapes of one rank broadcast to."""
    first, second = (b.sizes(index) for index in op.inputs[:2])
    if first != second or first is None:
        raise b.refuse(op, "broadcasts shapes of different rank, which has no counterpart")
    left, right = b.real(op.inputs[0]), b.real(op.inputs[1])
    one = b.constant(np.ones((), np.int64 if b.tensor(op.inputs[0]).dtype == ir.DataType.INT64 else np.int32), "one")
    b.put(op.outputs[0], b.emit("Where", [b.emit("Equal", [left, one]), right, left]))


ROWS: dict[str, Row] = {
    "ADD": Row(binary("Add"), "AddOptions", 2),
    "SUB": Row(binary("Sub"), "SubOptions", 2),
    "MUL": Row(binary("Mul"), "MulOptions", 2),
    "DIV": Row(binary("Div"), "DivOptions", 2),
    "MAXIMUM": Row(binary("Max"), None, 2),
    "MINIMUM": Row(binary("Min"), None, 2),
    "POW": Row(binary("Pow"), None, 2),
    "ADD_N": Row(_add_n),
    "SQUARED_DIFFERENCE": Row(_squared_difference, None, 2),
    "FLOOR_DIV": Row(_floor_div, None, 2),
    "FLOOR_MOD": Row(_floor_mod, None, 2),
    "ATAN2": Row(_atan2, None, 2),
    "ABS": Row(unary("Abs")),
    "NEG": Row(unary("Neg")),
    "SIGN": Row(unary("Sign")),
    "EXP": Row(unary("Exp")),
    "LOG": Row(unary("Log")),
    "SQRT": Row(unary("Sqrt")),
    "RSQRT": Row(_rsqrt),
    "SQUARE": Row(_square),
    "SIN": Row(unary("Sin")),
    "COS": Row(unary("Cos")),
    "FLOOR": Row(unary("Floor")),
    "CEIL": Row(unary("Ceil")),
    "ROUND": Row(unary("Round")),
    "EQUAL": Row(binary("Equal"), None, 2),
    "NOT_EQUAL": Row(_not_equal, None, 2),
    "LESS": Row(binary("Less"), None, 2),
    "LESS_EQUAL": Row(binary("LessOrEqual"), None, 2),
    "GREATER": Row(binary("Greater"), None, 2),
    "GREATER_EQUAL": Row(binary("GreaterOrEqual"), None, 2),
    "LOGICAL_AND": Row(binary("And"), None, 2),
    "LOGICAL_OR": Row(binary("Or"), None, 2),
    "LOGICAL_NOT": Row(unary("Not")),
    "BITWISE_XOR": Row(binary("BitwiseXor"), None, 2),
    "RIGHT_SHIFT": Row(_right_shift, None, 2),
    "SELECT": Row(_select, None, 3),
    "SELECT_V2": Row(_select_v2, None, 3),
    "WHERE": Row(_where),
    "CAST": Row(_cast),
    "ZEROS_LIKE": Row(_zeros_like),
    "BROADCAST_ARGS": Row(_broadcast_args, None, 2),
    "QUANTIZE": Row(_convert),
    "DEQUANTIZE": Row(_convert),
    "DENSIFY": Row(_convert),
}
