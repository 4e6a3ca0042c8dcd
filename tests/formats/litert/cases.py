"""For every operator that comes in, small files that use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.formats.litert.build import Tflite


@dataclass(frozen=True)
class Case:
    """One file. make: builds it. ranges: for each input the bounds of its numbers, where they are not normal ones."""

    op: str
    make: Callable[[Tflite], Any]
    ranges: dict[int, tuple[float, float]] = field(default_factory=dict)
    tolerance: float = 1e-5


CASES: dict[str, Case] = {}


def case(
    name: str, op: str | None = None, **options: Any
) -> Callable[[Callable[[Tflite], Any]], Callable[[Tflite], Any]]:
    """A row of `CASES`; the operator is the first word of the name, in capitals, unless it is given."""

    def add(make: Callable[[Tflite], Any]) -> Callable[[Tflite], Any]:
        add_case(name, make, op, **options)
        return make

    return add


def add_case(name: str, make: Callable[[Tflite], Any], op: str | None = None, **options: Any) -> None:
    assert name not in CASES
    CASES[name] = Case(op or name.split(" ", maxsplit=1)[0], make, **options)


IMAGE = (1, 6, 8, 4)


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


# Convolutions and poolings


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


# Products


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


# Shapes


def _reshape(before: tuple[int, ...], after: tuple[int, ...], how: str = "input") -> Any:
    def make(t: Tflite) -> None:
        size = int(np.prod(before))
        full = [s if s != -1 else size // int(-np.prod(after)) for s in after]
        inputs = [t.input(before)] + ([t.constant(list(after))] if how == "input" else [])
        t.op("RESHAPE", inputs, full, "ReshapeOptions", newShape=list(after) if how == "options" else None)

    return make


for _after in ((1, 192), (-1, 4), (1, 48, 4), (1, 6, 1, 8, 4), (6, 8, 4), (1, 8, 6, 4), (1, -1, 4), (192,)):
    add_case(f"RESHAPE {_after}", _reshape(IMAGE, _after))
add_case("RESHAPE options", _reshape(IMAGE, (2, 96), "options"))
add_case("RESHAPE ones", _reshape((2, 1, 1, 6), (2, 6)))
add_case("RESHAPE drop height", _reshape((1, 1, 8, 4), (1, 8, 4)))
add_case("RESHAPE drop width", _reshape((1, 8, 1, 4), (1, -1, 4)))
add_case(
    "RESHAPE scalar",
    lambda t: t.op("RESHAPE", [t.input((1, 1)), t.constant(np.zeros(0, np.int32))], (), "ReshapeOptions"),
)
add_case(
    "RESHAPE computed",
    lambda t: t.op(
        "RESHAPE",
        [t.input((2, 6)), t.op("SHAPE", [t.input((3, 4))], (2,), "ShapeOptions", dtype="int32", outType=2)],
        (3, 4),
    ),
)
for _perm in ((0, 3, 1, 2), (0, 2, 1, 3), (0, 2, 3, 1), (0, 1, 2, 3), (3, 2, 1, 0)):
    add_case(
        f"TRANSPOSE {_perm}",
        lambda t, perm=_perm: t.op("TRANSPOSE", [t.input(IMAGE), t.constant(list(perm))], [IMAGE[i] for i in perm]),
    )
add_case(
    "TRANSPOSE then add",
    lambda t: t.op(
        "ADD",
        [t.op("TRANSPOSE", [t.input(IMAGE), t.constant([0, 3, 1, 2])], (1, 4, 6, 8)), t.weight(1, 4, 1, 1)],
        (1, 4, 6, 8),
        "AddOptions",
    ),
    op="TRANSPOSE",
)
for _axis in (0, 1, 2, 3, 4, -1, -2):
    _shape = list(IMAGE)
    _shape.insert(_axis if _axis >= 0 else _axis + 5, 1)
    add_case(
        f"EXPAND_DIMS {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "EXPAND_DIMS", [t.input(IMAGE), t.constant(a)], s, "ExpandDimsOptions"
        ),
    )
for _shape, _dims in (
    ((1, 1, 8, 4), [1]),
    ((1, 6, 1, 4), [2]),
    ((1, 6, 8, 1), [3]),
    ((1, 6, 8, 1), [-1]),
    ((1, 1, 1, 4), [1, 2]),
    ((1, 6, 1, 4), []),
    (IMAGE, [0]),
):
    _left = [s for i, s in enumerate(_shape) if s != 1 or (_dims and i not in [d % 4 for d in _dims])]
    add_case(
        f"SQUEEZE {_shape} {_dims}",
        lambda t, s=_shape, d=_dims, left=tuple(_left): t.op(
            "SQUEEZE", [t.input(s)], left, "SqueezeOptions", squeezeDims=d or None
        ),
    )
add_case("SHAPE", lambda t: t.op("SHAPE", [t.input(IMAGE)], (4,), "ShapeOptions", dtype="int32", outType=2))
add_case("SHAPE int64", lambda t: t.op("SHAPE", [t.input(IMAGE)], (4,), "ShapeOptions", dtype="int64", outType=4))
add_case("RANK", lambda t: t.op("RANK", [t.input(IMAGE)], (), dtype="int32"))


# Joining and splitting


for _axis in (0, 1, 2, 3, -1):
    _shape = [2 * s if i == _axis % 4 else s for i, s in enumerate(IMAGE)]
    add_case(
        f"CONCATENATION {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "CONCATENATION", [t.input(IMAGE), t.input(IMAGE)], s, "ConcatenationOptions", axis=a
        ),
    )
add_case(
    "CONCATENATION constant",
    lambda t: t.op(
        "CONCATENATION", [t.input(IMAGE), t.weight(1, 6, 8, 2)], (1, 6, 8, 6), "ConcatenationOptions", axis=3
    ),
)
for _axis in (0, 1, 2, -1):
    _shape = [3, 4]
    _shape.insert(_axis % 3, 2)
    add_case(
        f"PACK {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "PACK", [t.input((3, 4)), t.input((3, 4))], s, "PackOptions", axis=a, valuesCount=2
        ),
    )


def _several(
    op: str,
    inputs: Callable[[Tflite], list[int]],
    shapes: list[tuple[int, ...]],
    options: str | None,
    dtypes: Any = None,
    **f: Any,
) -> Any:
    def make(t: Tflite) -> None:
        given = inputs(t)
        outputs = [t.tensor(s, d) for s, d in zip(shapes, dtypes or ["float32"] * len(shapes), strict=True)]
        t.op(op, given, outputs, options, several=True, **f)

    return make


add_case("UNPACK 0", _several("UNPACK", lambda t: [t.input((2, 3, 4))], [(3, 4)] * 2, "UnpackOptions", num=2, axis=0))
add_case("UNPACK 3", _several("UNPACK", lambda t: [t.input(IMAGE)], [(1, 6, 8)] * 4, "UnpackOptions", num=4, axis=3))
add_case("UNPACK one", _several("UNPACK", lambda t: [t.input((1, 3))], [(3,)], "UnpackOptions", num=1, axis=0))
for _axis, _shape in ((1, (1, 3, 8, 4)), (3, (1, 6, 8, 2)), (-1, (1, 6, 8, 2))):
    add_case(
        f"SPLIT {_axis}",
        _several(
            "SPLIT", lambda t, a=_axis: [t.constant(a), t.input(IMAGE)], [_shape] * 2, "SplitOptions", numSplits=2
        ),
    )
add_case(
    "SPLIT_V",
    _several(
        "SPLIT_V",
        lambda t: [t.input(IMAGE), t.constant([1, 3]), t.constant(3)],
        [(1, 6, 8, 1), (1, 6, 8, 3)],
        "SplitVOptions",
        numSplits=2,
    ),
)
add_case(
    "SPLIT_V rest",
    _several(
        "SPLIT_V",
        lambda t: [t.input(IMAGE), t.constant([2, -1]), t.constant(1)],
        [(1, 2, 8, 4), (1, 4, 8, 4)],
        "SplitVOptions",
        numSplits=2,
    ),
)
add_case("TILE", lambda t: t.op("TILE", [t.input(IMAGE), t.constant([2, 1, 1, 3])], (2, 6, 8, 12)))
add_case("TILE computed", lambda t: t.op("TILE", [t.input((2, 3)), t.input((2,), "int32")], (4, 3)), ranges={1: (1, 3)})
add_case(
    "BROADCAST_TO", lambda t: t.op("BROADCAST_TO", [t.input((1, 1, 8, 4)), t.constant([1, 6, 8, 4])], IMAGE, version=2)
)
add_case("FILL", lambda t: t.op("FILL", [t.constant([2, 3]), t.input(())], (2, 3)))
add_case(
    "RANGE",
    lambda t: t.op("RANGE", [t.constant(0), t.input((), "int32"), t.constant(2)], (3,), dtype="int32"),
    ranges={0: (5, 9)},
)
for _axis, _shape in ((-1, (2, 3, 5)), (0, (5, 2, 3)), (1, (2, 5, 3))):
    add_case(
        f"ONE_HOT {_axis}",
        lambda t, a=_axis, s=_shape: t.op(
            "ONE_HOT",
            [t.input((2, 3), "int32"), t.constant(5), t.constant(np.float32(2)), t.constant(np.float32(-1))],
            s,
            "OneHotOptions",
            axis=a,
        ),
        ranges={0: (-1, 6)},
    )
add_case(
    "DYNAMIC_UPDATE_SLICE",
    lambda t: t.op("DYNAMIC_UPDATE_SLICE", [t.input((1, 7, 4)), t.input((1, 2, 4)), t.input((3,), "int32")], (1, 7, 4)),
    ranges={2: (0, 1)},
)


# Slices


add_case(
    "SLICE",
    lambda t: t.op("SLICE", [t.input(IMAGE), t.constant([0, 1, 2, 1]), t.constant([-1, 3, 4, 2])], (1, 3, 4, 2)),
)
add_case(
    "SLICE computed",
    lambda t: t.op("SLICE", [t.input((5, 6)), t.input((2,), "int32"), t.constant([2, -1])], (2, 5)),
    ranges={1: (1, 1)},
)


def _strided(begins: list[int], ends: list[int], strides: list[int], shape: tuple[int, ...], **masks: Any) -> Any:
    return lambda t: t.op(
        "STRIDED_SLICE",
        [t.input(IMAGE), t.constant(begins), t.constant(ends), t.constant(strides)],
        shape,
        "StridedSliceOptions",
        **masks,
    )


add_case("STRIDED_SLICE", _strided([0, 1, 0, 1], [1, 5, 8, 3], [1, 2, 3, 1], (1, 2, 3, 2)))
add_case(
    "STRIDED_SLICE masks", _strided([0, 3, 4, 2], [0, 3, 4, 2], [1, 1, 1, 1], (1, 3, 4, 2), beginMask=3, endMask=13)
)
add_case(
    "STRIDED_SLICE backwards",
    _strided([0, 4, 7, 3], [1, 0, 1, 0], [1, -1, -2, -1], (1, 4, 4, 4), beginMask=8, endMask=8),
)
add_case("STRIDED_SLICE shrink batch", _strided([0, 0, 0, 0], [1, 6, 8, 4], [1, 1, 1, 1], (6, 8, 4), shrinkAxisMask=1))
add_case("STRIDED_SLICE shrink row", _strided([0, 2, 0, 0], [1, 3, 8, 4], [1, 1, 1, 1], (1, 8, 4), shrinkAxisMask=2))
add_case(
    "STRIDED_SLICE shrink channel", _strided([0, 0, 0, -1], [1, 6, 8, 0], [1, 1, 1, 1], (1, 6, 8), shrinkAxisMask=8)
)
add_case("STRIDED_SLICE shrink both", _strided([0, 0, 0, 1], [1, 6, 8, 2], [1, 1, 1, 1], (6, 8), shrinkAxisMask=9))
add_case("STRIDED_SLICE short", _strided([0, 1], [1, 4], [1, 1], (1, 3, 8, 4)))
add_case("STRIDED_SLICE negative", _strided([-1, -5, -8, -3], [1, -1, 8, -1], [1, 1, 2, 1], (1, 4, 4, 2)))
add_case("STRIDED_SLICE ellipsis", _strided([0, 0, 1], [1, 0, 3], [1, 1, 1], (1, 6, 8, 2), ellipsisMask=2))
add_case(
    "STRIDED_SLICE ellipsis new",
    _strided([0, 0, 0], [0, 0, 0], [1, 1, 1], (1, 6, 8, 4, 1), ellipsisMask=2, newAxisMask=4, beginMask=1, endMask=1),
)
add_case("STRIDED_SLICE new", _strided([0, 0, 0], [1, 0, 4], [1, 1, 1], (1, 1, 4, 8, 4), newAxisMask=2))
add_case(
    "STRIDED_SLICE new and shrink",
    _strided([0, 0, 2], [1, 0, 3], [1, 1, 1], (1, 1, 8, 4), newAxisMask=2, shrinkAxisMask=4),
)
add_case("STRIDED_SLICE offset", _strided([0, 1, 2, 0], [1, 2, 3, 4], [1, 1, 1, 1], (1, 2, 3, 4), offset=True))
add_case(
    "STRIDED_SLICE computed",
    lambda t: t.op(
        "STRIDED_SLICE",
        [t.input((5, 6)), t.input((2,), "int32"), t.input((2,), "int32"), t.constant([1, 1])],
        (3,),
        "StridedSliceOptions",
        shrinkAxisMask=1,
        endMask=2,
    ),
    ranges={1: (2, 3), 2: (3, 4)},
)


def _gather(shape: tuple[int, ...], indices: list[int], axis: int, batch: int = 0) -> Any:
    after = [*shape[:axis], *np.shape(indices)[batch:], *shape[axis + 1 :]]
    return lambda t: t.op(
        "GATHER", [t.input(shape), t.constant(indices)], after, "GatherOptions", axis=axis, batchDims=batch
    )


add_case("GATHER 0", _gather((5, 3), [4, 0, 2], 0))
add_case("GATHER channels", _gather(IMAGE, [3, 1], 3))
add_case("GATHER rows", _gather(IMAGE, [5, 0], 1))
add_case("GATHER one", _gather(IMAGE, 2, 3))
add_case("GATHER one row", _gather(IMAGE, 2, 1))
add_case("GATHER matrix", _gather(IMAGE, [[5, 0], [1, 1]], 1))
add_case("GATHER batch", _gather((2, 5, 3), [[4, 0], [1, 2]], 1, 1))
add_case(
    "GATHER computed",
    lambda t: t.op("GATHER", [t.weight(9, 4), t.input((2, 3), "int32")], (2, 3, 4), "GatherOptions"),
    ranges={1: (0, 8), 0: (0, 8)},
)
add_case("GATHER_ND", lambda t: t.op("GATHER_ND", [t.input((3, 4, 2)), t.constant([[2, 1], [0, 3]])], (2, 2)))
add_case(
    "SCATTER_ND",
    lambda t: t.op("SCATTER_ND", [t.constant([[4], [1], [4]]), t.input((3, 2)), t.constant([6, 2])], (6, 2)),
)
for _axis in ([1], [3], [2, 3]):
    add_case(f"REVERSE_V2 {_axis}", lambda t, a=_axis: t.op("REVERSE_V2", [t.input(IMAGE), t.constant(a)], IMAGE))


# Padding and blocks

_PADS = [[0, 0], [1, 2], [3, 0], [1, 1]]
_PADDED = (1, 9, 11, 6)
add_case("PAD", lambda t: t.op("PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED))
add_case("PADV2", lambda t: t.op("PADV2", [t.input(IMAGE), t.constant(_PADS), t.constant(np.float32(0.7))], _PADDED))
add_case("PAD computed", lambda t: t.op("PAD", [t.input((2, 3)), t.input((2, 2), "int32")], (4, 5)), ranges={1: (1, 1)})
add_case(
    "MIRROR_PAD reflect",
    lambda t: t.op("MIRROR_PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED, "MirrorPadOptions", mode=0),
)
add_case(
    "MIRROR_PAD symmetric",
    lambda t: t.op("MIRROR_PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED, "MirrorPadOptions", mode=1),
)
add_case(
    "SPACE_TO_DEPTH",
    lambda t: t.op("SPACE_TO_DEPTH", [t.input(IMAGE)], (1, 3, 4, 16), "SpaceToDepthOptions", blockSize=2),
)
add_case(
    "DEPTH_TO_SPACE",
    lambda t: t.op("DEPTH_TO_SPACE", [t.input((1, 3, 4, 12))], (1, 6, 8, 3), "DepthToSpaceOptions", blockSize=2),
)
add_case(
    "SPACE_TO_BATCH_ND",
    lambda t: t.op(
        "SPACE_TO_BATCH_ND", [t.input((2, 5, 8, 3)), t.constant([2, 3]), t.constant([[1, 2], [1, 0]])], (12, 4, 3, 3)
    ),
)
add_case(
    "SPACE_TO_BATCH_ND 3",
    lambda t: t.op("SPACE_TO_BATCH_ND", [t.input((2, 6, 3)), t.constant([2]), t.constant([[1, 1]])], (4, 4, 3)),
)
add_case(
    "BATCH_TO_SPACE_ND",
    lambda t: t.op(
        "BATCH_TO_SPACE_ND", [t.input((12, 4, 3, 3)), t.constant([2, 3]), t.constant([[1, 2], [1, 0]])], (2, 5, 8, 3)
    ),
)


def _dilated(pads: list[list[int]], crops: list[list[int]], padding: int, kernel: int = 3) -> Any:
    """The convolution with gaps of 2 as a converter cuts it up."""

    def make(t: Tflite) -> None:
        block = t.constant([2, 2])
        high, wide = 6 + sum(pads[0]), 8 + sum(pads[1])
        x = t.op("SPACE_TO_BATCH_ND", [t.input(IMAGE), block, t.constant(pads)], (4, high // 2, wide // 2, 4))
        less = (kernel - 1) * padding
        shape = (4, high // 2 - less, wide // 2 - less, 5)
        x = t.op(
            "CONV_2D",
            [x, t.weight(5, kernel, kernel, 4), t.weight(5)],
            shape,
            "Conv2DOptions",
            strideH=1,
            strideW=1,
            padding=padding,
        )
        after = (1, 2 * shape[1] - sum(crops[0]), 2 * shape[2] - sum(crops[1]), 5)
        t.op("BATCH_TO_SPACE_ND", [x, block, t.constant(crops)], after)

    return make


add_case("BATCH_TO_SPACE_ND dilated", _dilated([[2, 2], [2, 2]], [[0, 0], [0, 0]], 1))
add_case("BATCH_TO_SPACE_ND dilated same", _dilated([[0, 0], [0, 0]], [[0, 0], [0, 0]], 0))
add_case("BATCH_TO_SPACE_ND dilated cropped", _dilated([[2, 4], [3, 3]], [[0, 1], [1, 0]], 1))
add_case("BATCH_TO_SPACE_ND cropped over", _dilated([[0, 0], [0, 0]], [[1, 1], [1, 1]], 1, kernel=1))


# Reductions


for _op in ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"):
    for _axes, _keep in (
        ([1, 2], False),
        ([1, 2], True),
        ([3], False),
        ([3], True),
        ([1], False),
        ([2], False),
        ([-1, 0], False),
        ([0, 1, 2, 3], False),
    ):
        _gone = [a % 4 for a in _axes]
        _shape = [1 if i in _gone else s for i, s in enumerate(IMAGE) if _keep or i not in _gone]
        add_case(
            f"{_op} {_axes} {_keep}",
            lambda t, op=_op, a=_axes, k=_keep, s=tuple(_shape): t.op(
                op, [t.input(IMAGE), t.constant(a)], s, "ReducerOptions", keepDims=k
            ),
            ranges={0: (0.8, 1.2)} if _op == "REDUCE_PROD" else {},
        )
add_case(
    "SUM int32",
    lambda t: t.op("SUM", [t.input((3, 4), "int32"), t.constant([1])], (3,), "ReducerOptions", dtype="int32"),
)
for _op in ("REDUCE_ANY", "REDUCE_ALL"):
    add_case(
        _op,
        lambda t, op=_op: t.op(op, [t.input((3, 4), "bool"), t.constant([1])], (3,), "ReducerOptions", dtype="bool"),
    )
for _op, _options in (("ARG_MAX", "ArgMaxOptions"), ("ARG_MIN", "ArgMinOptions")):
    for _axis, _to in ((3, "int64"), (1, "int32"), (-1, "int32")):
        add_case(
            f"{_op} {_axis} {_to}",
            lambda t, op=_op, o=_options, a=_axis, to=_to: t.op(
                op,
                [t.input(IMAGE), t.constant(a)],
                [s for i, s in enumerate(IMAGE) if i != a % 4],
                o,
                dtype=to,
                outputType=4 if to == "int64" else 2,
            ),
        )
add_case(
    "TOPK_V2",
    _several(
        "TOPK_V2", lambda t: [t.input((3, 9)), t.constant(4)], [(3, 4), (3, 4)], "TopKV2Options", ["float32", "int32"]
    ),
)
for _exclusive, _reverse in ((False, False), (True, False), (False, True)):
    add_case(
        f"CUMSUM {_exclusive} {_reverse}",
        lambda t, e=_exclusive, r=_reverse: t.op(
            "CUMSUM", [t.input(IMAGE), t.constant(3)], IMAGE, "CumsumOptions", exclusive=e, reverse=r
        ),
    )


# Resizing


for _op, _options in (
    ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
):
    for _how in ({}, {"alignCorners": True}, {"halfPixelCenters": True}):
        for _size in ((12, 16), (9, 5), (3, 4), (1, 1), (7, 13)):
            add_case(
                f"{_op} {_size} {''.join(_how)}",
                lambda t, op=_op, o=_options, size=_size, how=_how: t.op(
                    op, [t.input(IMAGE), t.constant(list(size))], (1, *size, 4), o, **how
                ),
            )
add_case(
    "RESIZE_BILINEAR computed",
    lambda t: t.op(
        "RESIZE_BILINEAR",
        [t.input(IMAGE), t.input((2,), "int32")],
        (1, 9, 9, 4),
        "ResizeBilinearOptions",
        halfPixelCenters=True,
    ),
    ranges={1: (9, 9)},
)


# Recurrent layers


def _variable(t: Tflite, *shape: int) -> int:
    index = t.tensor(shape)
    t.graph.tensors[index].isVariable = True
    return index


def _lstm(coupled: bool = False, peephole: bool = False, time_major: bool = False, fused: int = 4) -> Any:
    def make(t: Tflite) -> None:
        steps, batch, size, units = 5, 2, 3, 4
        shape = (steps, batch, size) if time_major else (batch, steps, size)
        gates = [-1 if coupled and i == 0 else i for i in range(4)]
        inputs = [t.input(shape)]
        inputs += [-1 if g < 0 else t.weight(units, size) for g in gates]
        inputs += [-1 if g < 0 else t.weight(units, units) for g in gates]
        inputs += [t.weight(units) if peephole and not (coupled and i == 0) else -1 for i in range(3)]
        inputs += [-1 if g < 0 else t.weight(units) for g in gates]
        inputs += [-1, -1, _variable(t, batch, units), _variable(t, batch, units), -1, -1, -1, -1]
        t.op(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            inputs,
            (*shape[:2], units),
            "UnidirectionalSequenceLSTMOptions",
            fusedActivationFunction=fused,
            timeMajor=time_major,
        )

    return make


add_case("UNIDIRECTIONAL_SEQUENCE_LSTM", _lstm())
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM time", _lstm(time_major=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM coupled", _lstm(coupled=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM peephole", _lstm(peephole=True))
add_case("UNIDIRECTIONAL_SEQUENCE_LSTM peephole coupled", _lstm(coupled=True, peephole=True))


def _both(merge: bool) -> Any:
    def make(t: Tflite) -> None:
        # The interpreter's merged outputs of more than one sample change from run to run: it reads what it never wrote.
        steps, batch, size, units = 5, 1 if merge else 2, 3, 4
        way = lambda: (  # noqa: E731
            [t.weight(units, size) for _ in range(4)]
            + [t.weight(units, units) for _ in range(4)]
            + [-1] * 3
            + [t.weight(units) for _ in range(4)]
            + [-1, -1]
        )
        inputs = [
            t.input((batch, steps, size)),
            *way(),
            *way(),
            *[_variable(t, batch, units) for _ in range(4)],
            *[-1] * 9,
        ]
        shapes = [(batch, steps, 2 * units)] if merge else [(batch, steps, units)] * 2
        t.op(
            "BIDIRECTIONAL_SEQUENCE_LSTM",
            inputs,
            [t.tensor(s) for s in shapes],
            "BidirectionalSequenceLSTMOptions",
            several=True,
            fusedActivationFunction=4,
            timeMajor=False,
            mergeOutputs=merge,
        )

    return make


add_case("BIDIRECTIONAL_SEQUENCE_LSTM merged", _both(True))
add_case("BIDIRECTIONAL_SEQUENCE_LSTM", _both(False))
for _time in (False, True):
    for _fused in (4, 1):
        add_case(
            f"UNIDIRECTIONAL_SEQUENCE_RNN {_time} {_fused}",
            lambda t, time=_time, fused=_fused: t.op(
                "UNIDIRECTIONAL_SEQUENCE_RNN",
                [
                    t.input((5, 2, 3) if time else (2, 5, 3)),
                    t.weight(4, 3),
                    t.weight(4, 4),
                    t.weight(4),
                    _variable(t, 2, 4),
                ],
                (5, 2, 4) if time else (2, 5, 4),
                "SequenceRNNOptions",
                timeMajor=time,
                fusedActivationFunction=fused,
            ),
        )


# Between integers and floats


add_case(
    "QUANTIZE",
    lambda t: t.op("QUANTIZE", [t.input(IMAGE)], t.tensor(IMAGE, "int8", scale=0.05, zero=3), "QuantizeOptions"),
)
add_case(
    "DEQUANTIZE",
    lambda t: t.op("DEQUANTIZE", [t.input(IMAGE, "uint8", scale=0.1, zero=128)], IMAGE, "DequantizeOptions"),
    ranges={0: (0, 255)},
)


@case("DEQUANTIZE float16")
def _half(t: Tflite) -> None:
    half = t.constant((t.random.standard_normal((8, 3, 3, 4)) * 0.3).astype(np.float16))
    weight = t.op("DEQUANTIZE", [half], (8, 3, 3, 4), "DequantizeOptions")
    t.op("CONV_2D", [t.input(IMAGE), weight, t.weight(8)], (1, 6, 8, 8), "Conv2DOptions", strideW=1, strideH=1)


@case("DENSIFY")
def _sparse(t: Tflite) -> None:
    weight = t.random.standard_normal((6, 8)) * (t.random.random((6, 8)) < 0.4)
    dense = t.op("DENSIFY", [t.sparse(weight.astype(np.float32))], (6, 8), "DensifyOptions")
    t.op("FULLY_CONNECTED", [t.input((3, 8)), dense, t.weight(6)], (3, 6), "FullyConnectedOptions")


@case("DENSIFY blocks")
def _sparse_blocks(t: Tflite) -> None:
    weight = (
        t.random.standard_normal((6, 8)).astype(np.float32).reshape(6, 2, 4)
        * np.array([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])[..., None]
    )
    dense = t.op("DENSIFY", [t.sparse(weight.reshape(6, 8).astype(np.float32), block=4)], (6, 8), "DensifyOptions")
    t.op("FULLY_CONNECTED", [t.input((3, 8)), dense, t.weight(6)], (3, 6), "FullyConnectedOptions")
