"""One or more small graphs for each row of the operator table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.graph.build import model, node


@dataclass(frozen=True)
class Case:
    """nodes with inputs (`x:f[1,2]`), constants, and what holds for the file."""

    nodes: list[onnx.NodeProto]
    inputs: list[str]
    outputs: list[str]
    constants: dict[str, Any] = field(default_factory=dict)
    opset: int = 17
    positive: bool = False
    kernels: tuple[str, ...] = ()

    def model(self) -> onnx.ModelProto:
        return model(self.nodes, self.inputs, self.outputs, self.constants, opset=self.opset)


def w(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def one(
    op: str, *shapes: str, out: str = "", constants: dict[str, Any] | None = None, opset: int = 17, **options: Any
) -> Case:
    """A graph of one node; constants follow the inputs."""
    kernels = options.pop("kernels", ())
    positive = options.pop("positive", False)
    names = [f"x{i}" for i in range(len(shapes))]
    result = out or f"f[{shapes[0]}]"
    given = constants or {}
    return Case(
        [node(op, [*names, *given], ["y"], **options)],
        [s if ":" in s else f"{n}:f[{s}]" for n, s in zip(names, shapes, strict=True)],
        [f"y:{result}"],
        {k: v for k, v in given.items() if v is not None},
        opset,
        positive,
        kernels,
    )


IMAGE = "1,3,8,10"


def conv(weight: tuple[int, ...], image: str = IMAGE, bias: bool = True, **options: Any) -> Case:
    constants = {"w": w(*weight), **({"b": w(weight[0], seed=1)} if bias else {})}
    kernels = options.pop("kernels", ())
    return one("Conv", image, out="f", constants=constants, kernels=kernels, **options)


def up(weight: tuple[int, ...], image: str = "1,4,5,6", **options: Any) -> Case:
    constants = {"w": w(*weight), "b": w(weight[1], seed=1)}
    return one("ConvTranspose", image, out="f", constants=constants, **options)


def resized(scale: float | None, sizes: tuple[int, ...] = (), image: str = "1,2,6,8", **options: Any) -> Case:
    constants: dict[str, Any] = {"roi": np.zeros(0, np.float32)}
    if scale is not None:
        constants["scales"] = np.array([1, 1, scale, scale], np.float32)
    else:
        constants |= {"scales": np.zeros(0, np.float32), "sizes": ints(*sizes)}
    return one("Resize", image, out="f", constants=constants, **options)


def around_conv(op: str, *, out: str = "f", constants: dict[str, Any] | None = None, **options: Any) -> Case:
    """An operator between two convolutions: it has to follow their layout."""
    return Case(
        [
            node("Conv", ["x", "w0"], ["before"], pads=[1, 1, 1, 1]),
            node(op, ["before", *(constants or {})], ["after"], **options),
            node("Conv", ["after", "w1"], ["y"]),
        ],
        ["x:f[1,3,8,8]"],
        [f"y:{out}"],
        {"w0": w(4, 3, 3, 3), "w1": w(2, 4, 1, 1, seed=2), **(constants or {})},
        opset=18,
    )


UNARY = (
    "Abs",
    "Neg",
    "Sign",
    "Floor",
    "Ceil",
    "Round",
    "Exp",
    "Sin",
    "Cos",
    "Tan",
    "Erf",
    "Reciprocal",
    "Sinh",
    "Cosh",
)
ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "HardSwish", "Elu", "Celu", "Selu", "HardSigmoid", "Softplus", "Softsign")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")

COMPUTING: dict[str, list[Case]] = {
    "Conv": [
        conv((4, 3, 3, 3), kernels=("CONV_2D",)),
        conv((4, 3, 3, 3), bias=False),
        conv((4, 3, 3, 3), pads=[1, 1, 1, 1]),
        conv((4, 3, 3, 3), pads=[1, 1, 1, 1], strides=[2, 2], kernels=("PAD", "CONV_2D")),
        conv((4, 3, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2]),
        conv((4, 3, 3, 3), pads=[2, 2, 2, 2], dilations=[2, 2]),
        conv((4, 3, 3, 2), auto_pad="SAME_UPPER", strides=[2, 1]),
        conv((4, 3, 2, 2), auto_pad="SAME_LOWER"),
        conv((3, 1, 3, 3), group=3, pads=[1, 1, 1, 1], kernels=("DEPTHWISE_CONV_2D",)),
        conv((6, 1, 3, 3), group=3),
        conv((3, 1, 3, 3), group=3, dilations=[2, 2]),
        conv((4, 2, 3, 3), image="1,4,6,6", group=2),
        conv((4, 3, 5), image="1,3,20", pads=[2, 2]),
        conv((3, 1, 5), image="1,3,20", group=3, strides=[2]),
    ],
    "ConvTranspose": [
        up((4, 3, 2, 2), strides=[2, 2]),
        up((4, 3, 3, 3)),
        up((4, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        up((4, 3, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
        up((4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
        up((4, 3, 3), image="1,4,9", strides=[2]),
    ],
    "MaxPool": [
        one("MaxPool", IMAGE, out="f", kernel_shape=[2, 2], strides=[2, 2]),
        one("MaxPool", IMAGE, out="f", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        one("MaxPool", IMAGE, out="f", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        one("MaxPool", "1,3,7,9", out="f", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    ],
    "AveragePool": [
        one("AveragePool", IMAGE, out="f", kernel_shape=[2, 2], strides=[2, 2]),
        one("AveragePool", IMAGE, out="f", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        one("AveragePool", IMAGE, out="f", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    ],
    "GlobalAveragePool": [one("GlobalAveragePool", IMAGE, out="f"), around_conv("GlobalAveragePool")],
    "GlobalMaxPool": [one("GlobalMaxPool", IMAGE, out="f")],
    "Gemm": [
        one("Gemm", "2,5", out="f", constants={"w": w(5, 3), "b": w(3)}, kernels=("FULLY_CONNECTED",)),
        one("Gemm", "2,5", out="f", constants={"w": w(3, 5)}, transB=1),
        one("Gemm", "5,2", out="f", constants={"w": w(5, 3), "b": w(1, 3)}, transA=1),
        one("Gemm", "2,5", out="f", constants={"w": w(5, 3), "b": w(3)}, alpha=0.5, beta=2.0),
        one("Gemm", "2,5", "5,3", "3", out="f"),
        one("Gemm", "2,5", out="f", constants={"w": w(5, 3), "b": w(2, 1)}),
    ],
    "MatMul": [
        one("MatMul", "1,4,5", out="f", constants={"w": w(5, 3)}, kernels=("FULLY_CONNECTED",)),
        one("MatMul", "1,2,4,5", "1,2,5,3", out="f", kernels=("BATCH_MATMUL",)),
        one("MatMul", "2,4,5", "5,3", out="f"),
        one("MatMul", "2,4,5", "5", out="f"),
        one("MatMul", "5", "2,5,3", out="f"),
        one("MatMul", "1,4,5", out="f", constants={"w": w(1, 5, 3)}),
        one("MatMul", "2,1,2,2,4,5", "2,1,2,2,5,3", out="f"),
        Case(
            [node("Transpose", ["b"], ["t"], perm=[0, 2, 1]), node("MatMul", ["a", "t"], ["y"])],
            ["a:f[2,4,5]", "b:f[2,3,5]"],
            ["y:f"],
            kernels=("BATCH_MATMUL",),
        ),
    ],
    **{op: [one(op, "2,3,4,5")] for op in UNARY},
    **{op: [one(op, "2,3,4,5", positive=True)] for op in ("Sqrt", "Log")},
    **{op: [one(op, "2,3,4", opset=14)] for op in ACTIVATIONS},
    "Rsqrt": [
        Case(
            [node("Sqrt", ["x"], ["a"]), node("Div", ["c", "a"], ["y"])],
            ["x:f[2,3]"],
            ["y:f"],
            {"c": np.float32(1)},
            positive=True,
            kernels=("RSQRT",),
        )
    ],
    "Not": [
        Case([node("Greater", ["x", "c"], ["a"]), node("Not", ["a"], ["y"])], ["x:f[2,3]"], ["y:b"], {"c": w(2, 3)})
    ],
    **{
        op: [
            one(op, "2,3,4", "2,3,4"),
            one(op, "2,3,4", out="f", constants={"c": w(4)}),
            one(op, "2,3,4", "3,1", out="f"),
            around_conv(op, constants={"c": w(4, 1, 1)}),
        ]
        for op in BINARY
    },
    **{op: [one(op, "2,3,4", "3,4", out="b")] for op in COMPARISONS},
    **{
        op: [
            Case(
                [node("Greater", ["x", "c"], ["a"]), node("Less", ["x", "d"], ["b"]), node(op, ["a", "b"], ["y"])],
                ["x:f[2,3]"],
                ["y:b"],
                {"c": w(2, 3), "d": w(2, 3, seed=3)},
            )
        ]
        for op in ("And", "Or", "Xor")
    },
    "Pow": [
        one("Pow", "2,3", constants={"e": np.float32(2)}, kernels=("SQUARE",)),
        one("Pow", "2,3", constants={"e": np.float32(0.5)}, positive=True),
        one("Pow", "2,3", "2,3", positive=True),
        one("Pow", "2,3", constants={"e": ints(3)}),
    ],
    "Mod": [one("Mod", "x0:i[2,3]", out="i", constants={"d": ints(3)})],
    "Where": [
        Case(
            [node("Greater", ["x", "c"], ["a"]), node("Where", ["a", "x", "d"], ["y"])],
            ["x:f[2,3,4]"],
            ["y:f"],
            {"c": w(4), "d": w(3, 1)},
        )
    ],
    "Cast": [
        one("Cast", "x0:i[2,3]", out="f", to=1),
        Case([node("Cast", ["x"], ["a"], to=9), node("Cast", ["a"], ["y"], to=1)], ["x:f[2,3]"], ["y:f"]),
        Case([node("Cast", ["x"], ["a"], to=6), node("Cast", ["a"], ["y"], to=1)], ["x:f[2,3]"], ["y:f"]),
    ],
    "CastLike": [one("CastLike", "x0:i[2,3]", out="f", constants={"t": w(1)})],
    "IsNaN": [
        Case([node("Log", ["x"], ["a"]), node("IsNaN", ["a"], ["y"])], ["x:f[2,3]"], ["y:b"]),
    ],
    "Trilu": [
        one("Trilu", "2,4,5", constants={"k": np.array(1)}),
        one("Trilu", "4,4", upper=0),
    ],
    "Identity": [Case([node("Identity", ["x"], ["y"])], ["x:f[2,3]"], ["y:f"])],
    "Clip": [
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Clip", ["a", "lo", "hi"], ["y"])],
            ["x:f[1,3,5,5]"],
            ["y:f"],
            {"w": 3 * w(4, 3, 3, 3), "lo": np.float32(0), "hi": np.float32(6)},
            kernels=("CONV_2D",),
        ),
        one("Clip", "2,3,4", constants={"lo": np.float32(0), "hi": np.float32(6)}, kernels=("RELU6",)),
        one("Clip", "2,3,4", constants={"lo": np.float32(-0.3), "hi": np.float32(0.4)}),
        one("Clip", "2,3,4", constants={"lo": np.float32(-1), "hi": np.float32(1)}),
        one("Clip", "2,3,4", constants={"lo": np.float32(0), "hi": np.float32(1)}),
        one("Clip", "2,3,4", constants={"lo": np.float32(-0.2)}),
    ],
    "Gelu": [one("Gelu", "2,3,4", opset=20), one("Gelu", "2,3,4", opset=20, approximate="tanh")],
    "LeakyRelu": [one("LeakyRelu", "2,3,4", alpha=0.2)],
    "PRelu": [one("PRelu", "2,3,4", constants={"s": w(4)}), around_conv("PRelu", constants={"s": w(4, 1, 1)})],
    "Swish": [one("Swish", "2,3,4", opset=24), one("Swish", "2,3,4", opset=24, alpha=1.5)],
    "Mish": [one("Mish", "2,3,4", opset=18)],
    "ThresholdedRelu": [one("ThresholdedRelu", "2,3,4", alpha=0.3)],
    "Softmax": [one("Softmax", "2,3,4"), one("Softmax", "2,3,4", axis=1), around_conv("Softmax", axis=1)],
    "LogSoftmax": [one("LogSoftmax", "2,3,4"), one("LogSoftmax", "2,3,4", axis=1)],
    "LayerNormalization": [
        one("LayerNormalization", "2,3,4", constants={"s": w(4), "b": w(4)}),
        one("LayerNormalization", "2,3,4", constants={"s": w(3, 4)}, axis=1),
    ],
    "RMSNormalization": [one("RMSNormalization", "2,3,4", constants={"s": w(4)}, opset=23)],
    "InstanceNormalization": [
        one("InstanceNormalization", IMAGE, constants={"s": w(3), "b": w(3)}),
        one("InstanceNormalization", "1,3,9", constants={"s": w(3), "b": w(3)}),
        around_conv("InstanceNormalization", constants={"s": w(4), "b": w(4)}),
    ],
    "GroupNormalization": [
        one("GroupNormalization", "1,4,5,5", constants={"s": w(4), "b": w(4)}, num_groups=2, opset=21)
    ],
    "BatchNormalization": [
        one("BatchNormalization", IMAGE, constants={"s": w(3), "b": w(3), "m": w(3), "v": np.abs(w(3)) + 0.1})
    ],
    "LpNormalization": [
        one("LpNormalization", "2,3,4"),
        one("LpNormalization", "2,3,4", axis=1),
        one("LpNormalization", "2,3,4", p=1),
    ],
    "LRN": [one("LRN", "1,6,4,4", size=3, alpha=0.01)],
    **{
        op: [
            one(op, "2,3,4,5", out="f", constants={"axes": ints(2, 3)}, opset=18),
            one(op, "2,3,4,5", out="f", constants={"axes": ints(-1)}, keepdims=0, opset=18),
            one(op, "2,3", out="f", opset=18),
            around_conv(op, constants={"axes": ints(2)}),
        ]
        for op in REDUCTIONS
    },
    "ReduceSum": [
        one("ReduceSum", "2,3,4", out="f", constants={"axes": ints(1)}),
        one("ReduceSum", "2,3,4", out="f", keepdims=0),
    ],
    "ReduceLogSum": [one("ReduceLogSum", "2,3,4", out="f", constants={"axes": ints(1)}, opset=18, positive=True)],
    "ReduceLogSumExp": [one("ReduceLogSumExp", "2,3,4", out="f", constants={"axes": ints(1)}, opset=18)],
    **{
        op: [one(op, "2,3,4", out="i", axis=1), one(op, "2,3,4", out="i", axis=-1, keepdims=0)]
        for op in ("ArgMax", "ArgMin")
    },
    "CumSum": [
        one("CumSum", "2,3,4", constants={"a": np.array(1)}),
        one("CumSum", "2,3,4", constants={"a": np.array(-1)}, exclusive=1, reverse=1),
    ],
    "TopK": [
        Case([node("TopK", ["x", "k"], ["y", "i"])], ["x:f[2,6]"], ["y:f", "i:i"], {"k": ints(3)}),
        Case([node("TopK", ["x", "k"], ["y", "i"], axis=1)], ["x:f[2,6,3]"], ["y:f", "i:i"], {"k": ints(2)}),
    ],
    "Resize": [
        resized(2.0, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        resized(2.0, mode="nearest"),
        resized(0.5, mode="nearest"),
        resized(2.0, mode="nearest", coordinate_transformation_mode="align_corners", nearest_mode="ceil"),
        resized(None, (1, 2, 9, 5), mode="nearest"),
        resized(2.0, mode="linear"),
        resized(2.0, mode="linear", coordinate_transformation_mode="asymmetric"),
        resized(2.0, mode="linear", coordinate_transformation_mode="align_corners"),
        resized(None, (1, 2, 9, 5), mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    ],
    "QuantizeLinear": [
        Case(
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
            ["x:f[2,3]"],
            ["y:f"],
            {"s": np.float32(0.05), "z": np.int8(3)},
            kernels=("QUANTIZE", "DEQUANTIZE"),
        )
    ],
    "DequantizeLinear": [
        Case(
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
            ["x:f[2,3]"],
            ["y:f"],
            {"s": np.float32(0.05), "z": np.uint8(130)},
        )
    ],
    "Requantize": [
        Case(
            [
                node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                node("DequantizeLinear", ["q", "s", "z"], ["a"]),
                node("Transpose", ["a"], ["b"], perm=[1, 0]),
                node("QuantizeLinear", ["b", "t", "z"], ["p"]),
                node("DequantizeLinear", ["p", "t", "z"], ["y"]),
            ],
            ["x:f[2,3]"],
            ["y:f"],
            {"s": np.float32(0.05), "t": np.float32(0.07), "z": np.int8(3)},
        )
    ],
    "Reinterpret": [
        Case(
            [
                node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                node("DequantizeLinear", ["q", "t", "z"], ["a"]),
                node("Relu", ["a"], ["b"]),
                node("QuantizeLinear", ["b", "u", "z"], ["p"]),
                node("DequantizeLinear", ["p", "u", "z"], ["y"]),
            ],
            ["x:f[2,3]"],
            ["y:f"],
            {"s": np.float32(0.05), "t": np.float32(0.01), "u": np.float32(0.0075), "z": np.int8(3)},
            kernels=("RELU",),
        ),
        Case(
            [
                node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                node("Transpose", ["q"], ["p"], perm=[1, 0]),
                node("DequantizeLinear", ["p", "t", "z"], ["y"]),
            ],
            ["x:f[2,3]"],
            ["y:f"],
            {"s": np.float32(0.05), "t": np.float32(0.01), "z": np.uint8(3)},
        ),
    ],
}
