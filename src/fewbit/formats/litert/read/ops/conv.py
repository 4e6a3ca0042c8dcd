"""Convolutions and poolings. They run channels first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from fewbit.formats.litert import schema
from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout
from fewbit.formats.litert.read.ops.row import Handler, Row, activated

_MOST = 1 << 20
"""No stride, dilation or window is larger: their products have to stay far from the ends of 64-bit integers."""


def _conv_2d(b: Builder, op: Operator, options: Any) -> None:
    _rank(b, op, 4)
    weight = b.weight(op.inputs[1], [0, 3, 1, 2])
    channels, inner = (b.sizes(op.inputs[i]) for i in (0, 1))
    groups = 1
    if channels is not None and inner is not None and channels[3] and inner[3]:
        groups = channels[3] // inner[3]
        if groups * inner[3] != channels[3] or (inner[0] or 0) % groups:
            raise b.refuse(op, f"has weights of shape {inner} for an input of shape {channels}")
    _convolve(b, op, options, weight, groups)


def _depthwise_conv_2d(b: Builder, op: Operator, options: Any) -> None:
    _rank(b, op, 4)
    weight = b.weight(op.inputs[1], [3, 0, 1, 2])
    channels, sizes = b.sizes(op.inputs[0]), b.sizes(op.inputs[1])
    groups = 0 if channels is None else channels[3] or 0
    if not groups or sizes is None or sizes[0] != 1 or not sizes[3] or sizes[3] % groups:
        raise b.refuse(op, f"has weights of shape {sizes} for an input of shape {channels}")
    _convolve(b, op, options, weight, groups)


def _convolve(b: Builder, op: Operator, options: Any, weight: ir.Value, groups: int) -> None:
    kernel = [_size(b, op, size) for size in (b.sizes(op.inputs[1]) or ())[1:3]]
    strides = [_size(b, op, size) for size in (options.strideH, options.strideW)]
    dilations = [_size(b, op, size) for size in (options.dilationHFactor, options.dilationWFactor)]
    padding = getattr(options, "pads", None)
    value = b.emit(
        "Conv",
        [b.real(op.inputs[0], Layout.FIRST), weight, bias_of(b, op, 2)],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        **(_padding(b, op, options.padding, kernel, strides, dilations) if padding is None else {"pads": padding}),
    )
    b.put(op.outputs[0], activated(b, op, value, options.fusedActivationFunction), Layout.FIRST)


def _conv_3d(b: Builder, op: Operator, options: Any) -> None:
    _rank(b, op, 5)
    sizes = b.sizes(op.inputs[1]) or ()
    kernel = [_size(b, op, size) for size in sizes[:3]]
    strides = [_size(b, op, size) for size in (options.strideD, options.strideH, options.strideW)]
    dilations = [
        _size(b, op, size) for size in (options.dilationDFactor, options.dilationHFactor, options.dilationWFactor)
    ]
    value = b.emit(
        "Conv",
        [b.real(op.inputs[0], Layout.FIRST), b.weight(op.inputs[1], [4, 3, 0, 1, 2]), bias_of(b, op, 2)],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        **_padding(b, op, options.padding, kernel, strides, dilations),
    )
    b.put(op.outputs[0], activated(b, op, value, options.fusedActivationFunction), Layout.FIRST)


def _transpose_conv(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: the shape of the output, weights [O, H, W, I], data, and a bias in newer files."""
    sizes, weights, after = b.sizes(op.inputs[2]), b.sizes(op.inputs[1]), b.sizes(op.outputs[0])
    shape = b.array(op.inputs[0])
    if shape is not None and shape.size == 4:
        after = tuple(int(size) for size in shape.reshape(-1))
    if sizes is None or weights is None or after is None or not len(sizes) == len(weights) == len(after) == 4:
        raise b.refuse(op, f"has shapes of another rank than 4: {sizes}, {weights}, {after}")
    kernel = [_size(b, op, size) for size in weights[1:3]]
    strides = [_size(b, op, size) for size in (options.strideH, options.strideW)]
    begins, ends, extra = [], [], []
    for before, result, window, stride in zip(sizes[1:3], after[1:3], kernel, strides, strict=True):
        if before is None or result is None or before <= 0 or result <= 0:
            raise b.refuse(op, f"makes an output of shape {after} from one of {sizes}, and both have to be fixed")
        full = (before - 1) * stride + window
        begin = 0
        if schema.PADDINGS.get(options.padding) == "SAME":
            begin = max((-(-result // stride) - 1) * stride + window - result, 0) // 2
        end = full - begin - result
        begins.append(begin)
        ends.append(max(end, 0))
        extra.append(max(-end, 0))
        if extra[-1] >= stride:
            raise b.refuse(op, f"makes an output of {result} from {before} by steps of {stride}: it is too large")
    value = b.emit(
        "ConvTranspose",
        [b.real(op.inputs[2], Layout.FIRST), b.weight(op.inputs[1], [3, 0, 1, 2]), bias_of(b, op, 3)],
        kernel_shape=kernel,
        strides=strides,
        pads=[*begins, *ends],
        output_padding=extra if any(extra) else None,
    )
    fused = activated(b, op, value, options.fusedActivationFunction)
    b.put(op.outputs[0], fused, Layout.FIRST)


def _pool(op_type: str, **attributes: Any) -> Handler:
    def handler(b: Builder, op: Operator, options: Any) -> None:
        value = _pooled(b, op, options, b.real(op.inputs[0], _first(b, op)), op_type, **attributes)
        b.put(op.outputs[0], activated(b, op, value, options.fusedActivationFunction), Layout.FIRST)

    return handler


def _l2_pool(b: Builder, op: Operator, options: Any) -> None:
    value = b.real(op.inputs[0], _first(b, op))
    mean = _pooled(b, op, options, b.emit("Mul", [value, value]), "AveragePool", count_include_pad=0)
    root = b.emit("Sqrt", [mean])
    b.put(op.outputs[0], activated(b, op, root, options.fusedActivationFunction), Layout.FIRST)


def _pooled(b: Builder, op: Operator, options: Any, value: ir.Value, op_type: str, **attributes: Any) -> ir.Value:
    kernel = [_size(b, op, size) for size in (options.filterHeight, options.filterWidth)]
    strides = [_size(b, op, size) for size in (options.strideH, options.strideW)]
    padding = _padding(b, op, options.padding, kernel, strides, [1, 1])
    return b.emit(op_type, [value], kernel_shape=kernel, strides=strides, **padding, **attributes)


def bias_of(b: Builder, op: Operator, place: int) -> ir.Value | None:
    index = b.given(op, place)
    return None if index is None else b.real(index)


def _padding(
    b: Builder, op: Operator, code: int, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """Pads for the sizes of the input, or what ONNX calls the same rule where they are not known."""
    rule = schema.PADDINGS.get(code)
    if rule is None:
        raise b.refuse(op, f"has the padding {code}, which the schema does not know")
    if rule == "VALID":
        return {}
    sizes = (b.sizes(op.inputs[0]) or ())[1:-1]
    if len(sizes) != len(kernel) or any(size is None for size in sizes):
        return {"auto_pad": "SAME_UPPER"}
    totals = [
        max((-(-(size or 0) // stride) - 1) * stride + (window - 1) * dilation + 1 - (size or 0), 0)
        for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    if not any(totals):
        return {}
    return {"pads": [total // 2 for total in totals] + [total - total // 2 for total in totals]}


def _size(b: Builder, op: Operator, size: int | None) -> int:
    if size is None or not 0 < size <= _MOST:
        raise b.refuse(op, f"has a window, stride or dilation of {size}: it has to be from 1 to {_MOST}")
    return int(size)


def _rank(b: Builder, op: Operator, rank: int) -> None:
    ranks = [b.rank(index) for index in op.inputs[:2]]
    if ranks != [rank, rank]:
        raise b.refuse(op, f"has an input of {ranks[0]} axes and weights of {ranks[1]}: both have to have {rank}")


def _first(b: Builder, op: Operator) -> Layout:
    if b.rank(op.inputs[0]) != 4:
        raise b.refuse(op, f"has an input of {b.rank(op.inputs[0])} axes: it has to have 4")
    return Layout.FIRST


ROWS: dict[str, Row] = {
    "CONV_2D": Row(_conv_2d, "Conv2DOptions", 2),
    "DEPTHWISE_CONV_2D": Row(_depthwise_conv_2d, "DepthwiseConv2DOptions", 2),
    "TRANSPOSE_CONV": Row(_transpose_conv, "TransposeConvOptions", 3),
    "CONV_3D": Row(_conv_3d, "Conv3DOptions", 2),
    "AVERAGE_POOL_2D": Row(_pool("AveragePool", count_include_pad=0), "Pool2DOptions"),
    "MAX_POOL_2D": Row(_pool("MaxPool"), "Pool2DOptions"),
    "L2_POOL_2D": Row(_l2_pool, "Pool2DOptions"),
}
