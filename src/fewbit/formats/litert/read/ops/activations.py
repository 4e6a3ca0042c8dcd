"""Activations and normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout, placed
from fewbit.formats.litert.read.ops.elementwise import unary
from fewbit.formats.litert.read.ops.row import Handler, Row, aligned, clip, layout_of

_L2_EPSILON = 1e-6
"""The smallest norm that L2_NORMALIZATION divides by."""


def _clip(low: float, high: float) -> Handler:
    def handler(b: Builder, op: Operator, options: Any) -> None:
        layout = layout_of(b, op.inputs[0])
        b.put(op.outputs[0], clip(b, b.real(op.inputs[0], layout), low, high), layout)

    return handler


def _leaky_relu(b: Builder, op: Operator, options: Any) -> None:
    layout = layout_of(b, op.inputs[0])
    b.put(op.outputs[0], b.emit("LeakyRelu", [b.real(op.inputs[0], layout)], alpha=float(options.alpha)), layout)


def _prelu(b: Builder, op: Operator, options: Any) -> None:
    layout, values = aligned(b, op.inputs[:2])
    b.put(op.outputs[0], b.emit("PRelu", values), layout)


def _gelu(b: Builder, op: Operator, options: Any) -> None:
    layout = layout_of(b, op.inputs[0])
    how = "tanh" if options.approximate else "none"
    b.put(op.outputs[0], b.emit("Gelu", [b.real(op.inputs[0], layout)], approximate=how), layout)


def _softmax(b: Builder, op: Operator, options: Any) -> None:
    layout, value, axis = _channels(b, op)
    if options.beta != 1:
        value = b.emit("Mul", [value, np.float32(options.beta)])
    b.put(op.outputs[0], b.emit("Softmax", [value], axis=axis), layout)


def _log_softmax(b: Builder, op: Operator, options: Any) -> None:
    layout, value, axis = _channels(b, op)
    b.put(op.outputs[0], b.emit("LogSoftmax", [value], axis=axis), layout)


def _l2_normalization(b: Builder, op: Operator, options: Any) -> None:
    layout, value, axis = _channels(b, op)
    norm = b.emit("ReduceL2", [value, [axis]], keepdims=1)
    b.put(op.outputs[0], b.emit("Div", [value, b.emit("Max", [norm, np.float32(_L2_EPSILON)])]), layout)


def _local_response_normalization(b: Builder, op: Operator, options: Any) -> None:
    """x · (bias + alpha · Σ x²)^−beta over 2·radius + 1 channels; ONNX divides alpha by their number."""
    if b.known_rank(op, op.inputs[0]) != 4 or not 0 <= options.radius < 1 << 20:
        raise b.refuse(
            op, f"normalizes {b.rank(op.inputs[0])} axes over a radius of {options.radius}: there have to be 4"
        )
    size = 2 * options.radius + 1
    value: ir.Value = b.emit(
        "LRN",
        [b.real(op.inputs[0], Layout.FIRST)],
        size=size,
        alpha=float(options.alpha) * size,
        beta=float(options.beta),
        bias=float(options.bias),
    )
    b.put(op.outputs[0], value, Layout.FIRST)


def _channels(b: Builder, op: Operator) -> tuple[Layout, ir.Value, int]:
    """The input, and where its last axis is."""
    layout = layout_of(b, op.inputs[0])
    rank = b.rank(op.inputs[0])
    axis = placed(rank - 1, layout, rank) if layout is Layout.FIRST and rank else -1
    return layout, b.real(op.inputs[0], layout), axis


ROWS: dict[str, Row] = {
    "RELU": Row(unary("Relu")),
    "RELU6": Row(_clip(0.0, 6.0)),
    "RELU_N1_TO_1": Row(_clip(-1.0, 1.0)),
    "RELU_0_TO_1": Row(_clip(0.0, 1.0)),
    "TANH": Row(unary("Tanh")),
    "LOGISTIC": Row(unary("Sigmoid")),
    "ELU": Row(unary("Elu", alpha=1.0)),
    "HARD_SWISH": Row(unary("HardSwish")),
    "GELU": Row(_gelu, "GeluOptions"),
    "LEAKY_RELU": Row(_leaky_relu, "LeakyReluOptions"),
    "PRELU": Row(_prelu, None, 2),
    "SOFTMAX": Row(_softmax, "SoftmaxOptions"),
    "LOG_SOFTMAX": Row(_log_softmax),
    "L2_NORMALIZATION": Row(_l2_normalization),
    "LOCAL_RESPONSE_NORMALIZATION": Row(_local_response_normalization, "LocalResponseNormalizationOptions"),
}
