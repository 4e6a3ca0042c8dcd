"""Activation functions."""

from __future__ import annotations

import math

import numpy as np

from fewbit.formats.litert.write.absorb import levels
from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.fuse import bounds
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.ops.elementwise import composed, unary
from fewbit.formats.litert.write.ops.row import Row

_CLIPS = {
    (0.0, math.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}
"""LiteRT's RELU_0_TO_1 is not among them: XNNPACK does not take it, and it cuts the graph in two."""


def _clip(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    limits = bounds(op)
    quantized = x.quant is not None
    name = _CLIPS.get(limits) if limits is not None and x.dtype == "float32" else None
    if name is not None:
        unary(name)(emit, op)
        return
    layout = emit.layout(x)
    index = emit.read(x, layout)
    steps: list[tuple[str, int]] = []
    for side, builtin in enumerate(("MAXIMUM", "MINIMUM")):
        if limits is None:
            bound = op.input(side + 1)
            if bound is not None:
                steps.append((builtin, emit.read(bound)))
        elif not math.isinf(limits[side]):
            steps.append((builtin, _bound(emit, x, limits[side])))
    if not steps:
        emit.alias(output, index, layout)
        return
    for number, (builtin, bound_index) in enumerate(steps, 1):
        last = number == len(steps)
        target = emit.make(output, layout) if last else emit.temporary(f"{output.name}_low", emit.shape(index), x)
        emit.call(builtin, [index, bound_index], [target], "MaximumMinimumOptions")
        index = target
    if quantized and output.quant is not None and not output.quant.same(x.quant):
        raise refuse(op, "its output has another scale than its input", "requantize it")


def _bound(emit: Emitter, x: Tensor, number: float) -> int:
    if x.quant is None:
        return emit.like(x, number, "bound")
    return emit.constant(np.array(levels(number, x.quant, x.dtype)), x.dtype, x.quant, "bound")


def _gelu(emit: Emitter, op: Op) -> None:
    unary("GELU", "GeluOptions", approximate=op.get("approximate", "none") == "tanh")(emit, op)


def _leaky_relu(emit: Emitter, op: Op) -> None:
    unary("LEAKY_RELU", "LeakyReluOptions", alpha=float(op.get("alpha", 0.01)))(emit, op)


def _prelu(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    layout = emit.layout(x)
    operands = [emit.read(x, layout), emit.expanded(op.need(1), layout)]
    emit.call("PRELU", operands, [emit.make(op.outputs[0], layout)])


def _exponential(emit: Emitter, x: int, alpha: float, width: float = 1.0) -> int:
    """alpha (exp(min(x, 0) / width) - 1)."""
    low = emit.binary("MINIMUM", x, emit.number(0.0), "low")
    if width != 1.0:
        low = emit.binary("MUL", low, emit.number(1.0 / width), "low")
    minus = emit.binary("SUB", emit.unary("EXP", low, "exp", "ExpOptions"), emit.number(1.0), "minus")
    return minus if alpha == 1.0 else emit.binary("MUL", minus, emit.number(alpha), "negative")


def _elu(emit: Emitter, op: Op) -> None:
    if float(op.get("alpha", 1.0)) == 1.0:
        unary("ELU")(emit, op)
    else:
        composed(_scaled_elu)(emit, op)


def _scaled_elu(emit: Emitter, op: Op, x: int, y: int) -> None:
    negative = _exponential(emit, x, float(op.get("alpha", 1.0)))
    emit.binary("ADD", emit.unary("RELU", x, "relu"), negative, "elu", y)


def _celu(emit: Emitter, op: Op, x: int, y: int) -> None:
    alpha = float(op.get("alpha", 1.0))
    emit.binary("ADD", emit.unary("RELU", x, "relu"), _exponential(emit, x, alpha, alpha), "celu", y)


def _selu(emit: Emitter, op: Op, x: int, y: int) -> None:
    # The defaults are those of ONNX's definition of the operator.
    alpha, gamma = float(op.get("alpha", 1.6732632423543772)), float(op.get("gamma", 1.0507009873554805))
    total = emit.binary("ADD", emit.unary("RELU", x, "relu"), _exponential(emit, x, alpha), "selu")
    emit.binary("MUL", total, emit.number(gamma), "selu", y)


def _hard_sigmoid(emit: Emitter, op: Op, x: int, y: int) -> None:
    alpha, beta = float(op.get("alpha", 0.2)), float(op.get("beta", 0.5))
    line = emit.binary("ADD", emit.binary("MUL", x, emit.number(alpha), "slope"), emit.number(beta), "line")
    low = emit.binary("MAXIMUM", line, emit.number(0.0), "low")
    emit.binary("MINIMUM", low, emit.number(1.0), "hard_sigmoid", y)


def _swish(emit: Emitter, op: Op, x: int, y: int) -> None:
    alpha = float(op.get("alpha", 1.0))
    inner = x if alpha == 1.0 else emit.binary("MUL", x, emit.number(alpha), "scaled")
    emit.binary("MUL", x, emit.unary("LOGISTIC", inner, "gate"), "swish", y)


def _log_one_plus_exp(emit: Emitter, x: int, y: int | None) -> int:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    size = emit.unary("NEG", emit.unary("ABS", x, "abs", "AbsOptions"), "negative", "NegOptions")
    grown = emit.binary("ADD", emit.unary("EXP", size, "exp", "ExpOptions"), emit.number(1.0), "grown")
    return emit.binary("ADD", emit.unary("RELU", x, "relu"), emit.unary("LOG", grown, "log"), "softplus", y)


def _softplus(emit: Emitter, op: Op, x: int, y: int) -> None:
    _log_one_plus_exp(emit, x, y)


def _mish(emit: Emitter, op: Op, x: int, y: int) -> None:
    gate = emit.unary("TANH", _log_one_plus_exp(emit, x, None), "gate")
    emit.binary("MUL", x, gate, "mish", y)


def _softsign(emit: Emitter, op: Op, x: int, y: int) -> None:
    size = emit.binary("ADD", emit.unary("ABS", x, "abs", "AbsOptions"), emit.number(1.0), "size")
    emit.binary("DIV", x, size, "softsign", y)


def _thresholded_relu(emit: Emitter, op: Op, x: int, y: int) -> None:
    alpha = emit.number(float(op.get("alpha", 1.0)))
    above = emit.temporary("above", emit.shape(x), emit.tensors[x], dtype="bool")
    emit.call("GREATER", [x, alpha], [above], "GreaterOptions")
    emit.call("SELECT_V2", [above, x, emit.number(0.0)], [y], "SelectV2Options")


ROWS: dict[str, Row] = {
    "Relu": unary("RELU"),
    "Sigmoid": unary("LOGISTIC"),
    "Tanh": unary("TANH"),
    "HardSwish": unary("HARD_SWISH", "HardSwishOptions"),
    "Clip": _clip,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Elu": _elu,
    "Celu": composed(_celu),
    "Selu": composed(_selu),
    "HardSigmoid": composed(_hard_sigmoid),
    "Swish": composed(_swish),
    "Softplus": composed(_softplus),
    "Mish": composed(_mish),
    "Softsign": composed(_softsign),
    "ThresholdedRelu": composed(_thresholded_relu),
}
