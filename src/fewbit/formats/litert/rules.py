"""What LiteRT's integer kernels take and give, as data: the rules that a writer obeys and a plan can be made for.

Source: the quantization specification of LiteRT and the Prepare functions of its kernels, which check most of it; where a
kernel does not check (Concat, MaxPool and other kernels that move integers) a file that breaks the rule runs and is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

OutputScale = Literal["free", "same", "fixed"]

_NO_WEIGHTS: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_EMPTY: Mapping[str, tuple[float, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class IntegerKernel:
    """One operator's kernel for integers.

    types: the element types of activations for which there is one.
    output: `free` if the output has a scale of its own, `same` if integers are moved or compared, so that all data inputs
        and outputs share scale and zero point, `fixed` if the kernel knows its output's.
    fixed: element type → (scale, zero point) of a fixed output.
    data: indices of the inputs that carry data; None: all of them.
    weight: index of the input that may be a constant, symmetric, with one scale for all or one an output channel.
    weights: element type of the activation → those of a constant weight. With float32 the kernel is hybrid: it quantizes the
        activation by a scale a row that it finds as it runs, and gives float32.
    bias: index of the bias: int32 (int64 beside int16 activations) at the scale of input times weight.
    """

    types: tuple[str, ...]
    output: OutputScale
    fixed: Mapping[str, tuple[float, int]] = field(default_factory=lambda: _EMPTY)
    data: tuple[int, ...] | None = (0,)
    weight: int | None = None
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_WEIGHTS)
    bias: int | None = None


_BOTH = ("int8", "int16")
_ONLY8 = ("int8",)
_UNIT = MappingProxyType({"int8": (1 / 256, -128), "int16": (1 / 32768, 0)})
_SYMMETRIC_UNIT = MappingProxyType({"int8": (1 / 128, 0), "int16": (1 / 32768, 0)})


def _weighted(eight: tuple[str, ...], sixteen: tuple[str, ...], hybrid: tuple[str, ...]) -> IntegerKernel:
    weights = MappingProxyType({"int8": eight, "int16": sixteen, "float32": hybrid})
    return IntegerKernel(_BOTH, "free", data=(0, 1), weight=1, weights=weights, bias=2)


KERNELS: Mapping[str, IntegerKernel] = MappingProxyType(
    {
        **dict.fromkeys(("Gemm", "MatMul"), _weighted(("int8", "int4"), ("int8", "int4"), ("int8", "int4", "int2"))),
        "BatchMatMul": IntegerKernel(_BOTH, "free", data=(0, 1)),
        "Conv": _weighted(("int8", "int4"), ("int8", "int4"), ("int8", "int4")),
        "DepthwiseConv": _weighted(("int8", "int4"), ("int8",), ()),
        "ConvTranspose": _weighted(("int8",), ("int8",), ("int8",)),
        **dict.fromkeys(("Add", "Sub", "Mul"), IntegerKernel(_BOTH, "free", data=None)),
        **dict.fromkeys(("Max", "Min"), IntegerKernel(_BOTH, "same", data=None)),
        **dict.fromkeys(("Sigmoid", "Softmax"), IntegerKernel(_BOTH, "fixed", _UNIT)),
        "Tanh": IntegerKernel(_BOTH, "fixed", _SYMMETRIC_UNIT),
        "LogSoftmax": IntegerKernel(_ONLY8, "fixed", MappingProxyType({"int8": (16 / 256, 127)})),
        "L2Normalization": IntegerKernel(_ONLY8, "fixed", MappingProxyType({"int8": (1 / 128, 0)})),
        **dict.fromkeys(("Gelu", "HardSwish", "Elu", "PRelu"), IntegerKernel(_ONLY8, "free")),
        **dict.fromkeys(("Relu", "LeakyRelu", "Abs"), IntegerKernel(_BOTH, "free")),
        **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), IntegerKernel(_BOTH, "free")),
        "ReduceSum": IntegerKernel(_ONLY8, "free"),
        **dict.fromkeys(("ReduceMax", "ReduceMin", "GlobalMaxPool"), IntegerKernel(_BOTH, "same")),
        **dict.fromkeys(("MaxPool", "AveragePool"), IntegerKernel(_BOTH, "same")),
        "Concat": IntegerKernel(_BOTH, "same", data=None),
        **dict.fromkeys(
            ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "GatherND", "Pad"),
            IntegerKernel(_BOTH, "same"),
        ),
        **dict.fromkeys(("ResizeNearest", "Expand", "Tile", "Clip", "Identity"), IntegerKernel(_BOTH, "same")),
        **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), IntegerKernel(_ONLY8, "same")),
        # Weights of 10 bits: beside 16-bit numbers the result is a hundred steps off.
        "ResizeLinear": IntegerKernel(_ONLY8, "same"),
        "Where": IntegerKernel(_BOTH, "same", data=(1, 2)),
    }
)
"""ONNX's operator → its kernel for integers; what has no row computes in float.

Some operators are several kernels: MatMul is by a constant matrix and BatchMatMul of two computed tensors, a Conv whose groups
have one channel each is a DepthwiseConv, a Resize is named by its mode, and L2Normalization is LpNormalization with p = 2 over
the last axis.

What was tried of the interpreter of ai-edge-litert 2.3 and left out, as it is wrong without a word: 4-bit weights of a
depthwise convolution beside int16 (-19 dB), 2-bit weights of a hybrid convolution (NaN), a hybrid depthwise convolution with
one scale for all of its weight (-117 dB). With one scale a channel the latter is right, but XNNPACK has none: a MobileNetV3
took 1.7 times as long as with these weights dequantized. A hybrid convolution in groups needs one scale a channel, and gets
it."""

_XNNPACK = (
    "Conv DepthwiseConv ConvTranspose Gemm MatMul MaxPool GlobalAveragePool GlobalMaxPool Sigmoid Tanh Elu LeakyRelu "
    "Add Sub Mul ReduceMean ReduceMax ReduceMin ReduceSum Reshape Flatten Squeeze Unsqueeze Transpose Concat Slice Pad "
    "Identity DepthToSpace SpaceToDepth"
)
XNNPACK_INT8 = frozenset(_XNNPACK.split())
"""Rows of `KERNELS` that XNNPACK, LiteRT's default on CPUs, was seen to take with int8 (ai-edge-litert 2.3, x86). The others
run in LiteRT's own kernels, of which BatchMatMul takes 18 and Softmax 7 times as long as float in XNNPACK."""

BLOCKS = MappingProxyType({"Gemm": "int4", "MatMul": "int4"})
"""Operators whose hybrid kernel takes weights with one scale a block of inputs, and the type of these; scales are float16, and
a block has a multiple of 32 inputs."""

BLOCK_MULTIPLE = 32

MOVES = frozenset(name for name, kernel in KERNELS.items() if kernel.output == "same")
"""Operators whose output has the scale of their input."""


def data_inputs(kind: str, count: int) -> tuple[int, ...]:
    """The indices of the inputs of an operator with `count` inputs that carry data, as its kernel has them."""
    kernel = KERNELS[kind]
    return tuple(range(count)) if kernel.data is None else tuple(i for i in kernel.data if i < count)
