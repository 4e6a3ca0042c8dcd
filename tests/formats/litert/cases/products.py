"""Convolutions, poolings and products of matrices."""

from __future__ import annotations

from typing import Any

from tests.formats.litert.build import Tflite
from tests.formats.litert.cases.table import IMAGE, add_case


def _conv(kernel: int, stride: int, padding: int, dilation: int = 1, inner: int = 4, fused: int = 0) -> Any:
    def make(t: Tflite) -> None:
        inputs = [t.input((2, 9, 8, 4)), t.weight(8, kernel, kernel, inner), t.weight(8)]
        reach = (kernel - 1) * dilation
        rows, columns = ((-(-(n - reach * padding) // stride)) for n in (9, 8))
        t.op(
            "CONV_2D",
            inputs,
            (2, rows, columns, 8),
            "Conv2DOptions",
            strideW=stride,
            strideH=stride,
            padding=padding,
            dilationWFactor=dilation,
            dilationHFactor=dilation,
            fusedActivationFunction=fused,
        )

    return make


for _kernel in (1, 2, 3):
    for _stride in (1, 2):
        for _padding in (0, 1):
            add_case(f"CONV_2D {_kernel} {_stride} {_padding}", _conv(_kernel, _stride, _padding))
add_case("CONV_2D dilated", _conv(3, 1, 0, dilation=2))
add_case("CONV_2D grouped", _conv(3, 1, 0, inner=2))
add_case("CONV_2D relu6", _conv(3, 1, 0, fused=3))


def _depthwise(multiplier: int, stride: int, padding: int, dilation: int = 1) -> Any:
    def make(t: Tflite) -> None:
        reach = 2 * dilation
        rows, columns = ((-(-(n - reach * padding) // stride)) for n in (9, 8))
        t.op(
            "DEPTHWISE_CONV_2D",
            [t.input((2, 9, 8, 4)), t.weight(1, 3, 3, 4 * multiplier), t.weight(4 * multiplier)],
            (2, rows, columns, 4 * multiplier),
            "DepthwiseConv2DOptions",
            strideW=stride,
            strideH=stride,
            padding=padding,
            depthMultiplier=multiplier,
            dilationWFactor=dilation,
            dilationHFactor=dilation,
            fusedActivationFunction=1,
        )

    return make


for _multiplier, _stride, _padding, _dilation in ((1, 1, 0, 1), (1, 2, 0, 1), (2, 1, 1, 1), (3, 2, 0, 1), (1, 1, 0, 2)):
    add_case(
        f"DEPTHWISE_CONV_2D {_multiplier} {_stride} {_padding} {_dilation}",
        _depthwise(_multiplier, _stride, _padding, _dilation),
    )


def _transpose_conv(kernel: int, stride: int, padding: int, out: int, bias: bool = False) -> Any:
    def make(t: Tflite) -> None:
        inputs = [t.constant([1, out, out, 3]), t.weight(3, kernel, kernel, 4), t.input((1, 5, 5, 4))]
        if bias:
            inputs.append(t.weight(3))
        t.op(
            "TRANSPOSE_CONV",
            inputs,
            (1, out, out, 3),
            "TransposeConvOptions",
            version=3 if bias else 1,
            strideW=stride,
            strideH=stride,
            padding=padding,
        )

    return make


for _kernel, _stride, _padding, _out in (
    (2, 2, 0, 10),
    (3, 2, 0, 10),
    (3, 2, 0, 9),
    (3, 2, 1, 11),
    (4, 2, 0, 10),
    (3, 1, 0, 5),
    (2, 3, 0, 15),
):
    add_case(f"TRANSPOSE_CONV {_kernel} {_stride} {_padding} {_out}", _transpose_conv(_kernel, _stride, _padding, _out))
add_case("TRANSPOSE_CONV bias", _transpose_conv(3, 2, 0, 10, bias=True))
add_case(
    "CONV_3D",
    lambda t: t.op(
        "CONV_3D",
        [t.input((1, 4, 6, 5, 2)), t.weight(2, 3, 3, 2, 3), t.weight(3)],
        (1, 4, 3, 5, 3),
        "Conv3DOptions",
        strideD=1,
        strideH=2,
        strideW=1,
        padding=0,
    ),
)
for _op in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
    for _size, _stride, _padding, _after in ((2, 2, 1, (3, 4)), (3, 2, 0, (3, 4)), (3, 1, 0, (6, 8))):
        add_case(
            f"{_op} {_size} {_stride} {_padding}",
            lambda t, op=_op, size=_size, stride=_stride, padding=_padding, after=_after: t.op(
                op,
                [t.input(IMAGE)],
                (1, *after, 4),
                "Pool2DOptions",
                filterHeight=size,
                filterWidth=size,
                strideH=stride,
                strideW=stride,
                padding=padding,
                fusedActivationFunction=1 if op == "MAX_POOL_2D" else 0,
            ),
        )


def _dense(shape: tuple[int, ...], out: tuple[int, ...], keep: bool = False, bias: bool = True, inner: int = 6) -> Any:
    def make(t: Tflite) -> None:
        inputs = [t.input(shape), t.weight(5, inner), t.weight(5) if bias else -1]
        t.op("FULLY_CONNECTED", inputs, out, "FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=1)

    return make


add_case("FULLY_CONNECTED", _dense((3, 6), (3, 5)))
add_case("FULLY_CONNECTED flat", _dense((1, 6, 8, 4), (32, 5)))
add_case("FULLY_CONNECTED ones", _dense((2, 1, 1, 6), (2, 5)))
add_case("FULLY_CONNECTED keep", _dense((2, 3, 6), (2, 3, 5), keep=True))
add_case("FULLY_CONNECTED keep image", _dense((1, 2, 3, 6), (1, 2, 3, 5), keep=True))
add_case("FULLY_CONNECTED no bias", _dense((3, 6), (3, 5), bias=False))
for _x, _y in ((False, False), (True, False), (False, True), (True, True)):
    add_case(
        f"BATCH_MATMUL {_x} {_y}",
        lambda t, x=_x, y=_y: t.op(
            "BATCH_MATMUL",
            [t.input((2, 5, 3) if x else (2, 3, 5)), t.input((2, 4, 5) if y else (2, 5, 4))],
            (2, 3, 4),
            "BatchMatMulOptions",
            adjX=x,
            adjY=y,
        ),
    )
add_case(
    "BATCH_MATMUL image",
    lambda t: t.op("BATCH_MATMUL", [t.input(IMAGE), t.weight(4, 3)], (1, 6, 8, 3), "BatchMatMulOptions"),
)
add_case(
    "EMBEDDING_LOOKUP",
    lambda t: t.op("EMBEDDING_LOOKUP", [t.input((3,), "int32"), t.weight(7, 4)], (3, 4)),
    ranges={0: (0, 6)},
)
