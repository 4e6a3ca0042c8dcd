"""Functions of each number of one or more tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewbit.formats.litert.write.emit import BINARY_OPTIONS, Emitter, refuse
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.ops.common import common_layout, integer_of
from fewbit.formats.litert.write.ops.row import Row


def unary(builtin: str, options: str = "", **fields: object) -> Row:
    """A row of an operator that LiteRT has as it is."""

    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = emit.layout(x)
        emit.call(builtin, [emit.read(x, layout)], [emit.make(op.outputs[0], layout)], options, **fields)

    return write


def composed(steps: Callable[[Emitter, Op, int, int], None]) -> Row:
    """A row of a function that is written in several steps, given what it reads and what it makes."""

    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = emit.layout(x)
        source = emit.read(x, layout)
        steps(emit, op, source, emit.make(op.outputs[0], layout))

    return write


def binary(builtin: str) -> Row:
    """A row of an operator of two tensors, broadcast."""

    def write(emit: Emitter, op: Op) -> None:
        _fold(emit, op, builtin, op.activation)

    return write


def _fold(emit: Emitter, op: Op, builtin: str, activation: str = "NONE", scale: float | None = None) -> None:
    """Operands combined from left to right."""
    output = op.outputs[0]
    operands = [t for t in op.inputs if t is not None]
    layout = common_layout(emit, operands, output.rank)
    indices = [emit.expanded(t, layout) for t in operands]
    target = emit.make(output, layout)
    if len(indices) == 1:
        emit.reshape(indices[0], emit.shape(target), target)
        return
    options, fused = BINARY_OPTIONS[builtin]
    fields = {"fusedActivationFunction": activation} if fused else {}
    total = indices[0]
    for index, operand in enumerate(indices[1:], 2):
        last = index == len(indices) and scale is None
        shape = np.broadcast_shapes(emit.shape(total), emit.shape(operand))
        step = target if last else emit.temporary(f"{output.name}_part", shape, output)
        emit.call(builtin, [total, operand], [step], options, **fields)
        total = step
    if scale is not None:
        emit.binary("MUL", total, emit.number(scale), output.name, target)


def _variadic(builtin: str) -> Row:
    return lambda emit, op: _fold(emit, op, builtin)


def _mean(emit: Emitter, op: Op) -> None:
    _fold(emit, op, "ADD", scale=1.0 / len(op.inputs) if len(op.inputs) > 1 else None)


def _pow(emit: Emitter, op: Op) -> None:
    exponent = op.need(1)
    known = float(exponent.data.reshape(-1)[0]) if exponent.data is not None and exponent.data.size == 1 else None
    builtin = {2.0: "SQUARE", 0.5: "SQRT"}.get(known) if known is not None else None
    if builtin is not None and op.need(0).dtype == "float32" and exponent.rank <= op.need(0).rank:
        op.inputs = op.inputs[:1]
        unary(builtin, "SquareOptions" if builtin == "SQUARE" else "")(emit, op)
        return
    if exponent.dtype != op.need(0).dtype:
        if exponent.data is None:
            raise refuse(op, f"its exponent is {exponent.dtype} and its base {op.need(0).dtype}", "cast the exponent")
        data = exponent.data.astype(np.float32 if op.need(0).dtype == "float32" else np.int64)
        op.inputs[1] = Tensor(exponent.name, exponent.shape, op.need(0).dtype, data)
    _fold(emit, op, "POW")


def _mod(emit: Emitter, op: Op) -> None:
    if op.get("fmod", 0):
        raise refuse(op, "it has fmod=1", "FLOOR_MOD of LiteRT gives the sign of the divisor")
    _fold(emit, op, "FLOOR_MOD")


def _where(emit: Emitter, op: Op) -> None:
    output = op.outputs[0]
    layout = common_layout(emit, op.inputs, output.rank)
    operands = [emit.expanded(op.need(index), layout) for index in range(3)]
    emit.call("SELECT_V2", operands, [emit.make(output, layout)], "SelectV2Options")


def _cast(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    layout = emit.layout(x)
    if x.dtype == output.dtype:
        emit.alias(output, emit.read(x, layout), layout)
        return
    source = emit.read(x, layout)
    target = emit.make(output, layout)
    if output.dtype == "bool" and x.dtype == "float32":
        emit.binary("NOT_EQUAL", source, emit.number(0.0), output.name, target)
        return
    emit.call("CAST", [source], [target], "CastOptions", inDataType=x.dtype, outDataType=output.dtype)


def _identity(emit: Emitter, op: Op) -> None:
    layout = emit.layout(op.need(0))
    emit.alias(op.outputs[0], emit.read(op.need(0), layout), layout)


def _reciprocal(emit: Emitter, op: Op, x: int, y: int) -> None:
    emit.binary("DIV", emit.number(1.0), x, "reciprocal", y)


def _tan(emit: Emitter, op: Op, x: int, y: int) -> None:
    emit.binary("DIV", emit.unary("SIN", x, "sin"), emit.unary("COS", x, "cos", "CosOptions"), "tan", y)


def _sinh(emit: Emitter, op: Op, x: int, y: int) -> None:
    _half_of(emit, "SUB", x, y)


def _cosh(emit: Emitter, op: Op, x: int, y: int) -> None:
    _half_of(emit, "ADD", x, y)


def _half_of(emit: Emitter, builtin: str, x: int, y: int) -> None:
    """Half of exp(x) and exp(-x), added or subtracted."""
    up = emit.unary("EXP", x, "up", "ExpOptions")
    down = emit.unary("EXP", emit.unary("NEG", x, "negative", "NegOptions"), "down", "ExpOptions")
    emit.binary("MUL", emit.binary(builtin, up, down, "both"), emit.number(0.5), "half", y)


def _is_nan(emit: Emitter, op: Op, x: int, y: int) -> None:
    emit.binary("NOT_EQUAL", x, x, "nan", y)


def _trilu(emit: Emitter, op: Op) -> None:
    """The numbers on one side of a diagonal, zeros on the other."""
    x, output = op.need(0), op.outputs[0]
    offset = 0 if op.input(1) is None else integer_of(op, 1, "diagonal")
    ones = np.ones(x.shape[-2:], np.bool_)
    kept = emit.constant(np.triu(ones, offset) if op.get("upper", 1) else np.tril(ones, offset), "bool", hint="mask")
    zero = emit.constant(np.zeros((), np.int64), x.dtype, hint="zero")
    emit.call("SELECT_V2", [kept, emit.read(x), zero], [emit.make(output)], "SelectV2Options")


# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: error below 1.5e-7.
_ERF_P = 0.3275911
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _erf(emit: Emitter, op: Op, x: int, y: int) -> None:
    """sign(x) (1 - t (a1 + t (a2 + ...)) exp(-x²)) with t = 1 / (1 + p |x|)."""
    size = emit.unary("ABS", x, "abs", "AbsOptions")
    grown = emit.binary("ADD", emit.binary("MUL", size, emit.number(_ERF_P), "px"), emit.number(1.0), "grown")
    t = emit.binary("DIV", emit.number(1.0), grown, "t")
    total = emit.binary("MUL", t, emit.number(_ERF[0]), "horner")
    for factor in _ERF[1:]:
        total = emit.binary("MUL", emit.binary("ADD", total, emit.number(factor), "horner"), t, "horner")
    square = emit.unary("SQUARE", x, "square", "SquareOptions")
    bell = emit.unary("EXP", emit.unary("NEG", square, "negative", "NegOptions"), "bell", "ExpOptions")
    rest = emit.binary("SUB", emit.number(1.0), emit.binary("MUL", total, bell, "tail"), "rest")
    emit.binary("MUL", emit.unary("SIGN", x, "sign"), rest, "erf", y)


_UNARY: dict[str, tuple[str, str]] = {
    "Abs": ("ABS", "AbsOptions"),
    "Neg": ("NEG", "NegOptions"),
    "Sign": ("SIGN", ""),
    "Floor": ("FLOOR", ""),
    "Ceil": ("CEIL", ""),
    "Round": ("ROUND", ""),
    "Sqrt": ("SQRT", ""),
    "Rsqrt": ("RSQRT", ""),
    "Exp": ("EXP", "ExpOptions"),
    "Log": ("LOG", ""),
    "Sin": ("SIN", ""),
    "Cos": ("COS", "CosOptions"),
    "Not": ("LOGICAL_NOT", "LogicalNotOptions"),
}

_BINARY: dict[str, str] = {
    "Add": "ADD",
    "Sub": "SUB",
    "Mul": "MUL",
    "Div": "DIV",
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "And": "LOGICAL_AND",
    "Or": "LOGICAL_OR",
    "Xor": "NOT_EQUAL",
}

ROWS: dict[str, Row] = {
    **{name: unary(*row) for name, row in _UNARY.items()},
    **{name: binary(builtin) for name, builtin in _BINARY.items()},
    "Max": _variadic("MAXIMUM"),
    "Min": _variadic("MINIMUM"),
    "Sum": _variadic("ADD"),
    "Mean": _mean,
    "Pow": _pow,
    "Mod": _mod,
    "Where": _where,
    "Cast": _cast,
    "CastLike": _cast,
    "Trilu": _trilu,
    "IsNaN": composed(_is_nan),
    "Sinh": composed(_sinh),
    "Cosh": composed(_cosh),
    "Identity": _identity,
    "Reciprocal": composed(_reciprocal),
    "Tan": composed(_tan),
    "Erf": composed(_erf),
}
