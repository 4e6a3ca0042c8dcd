"""The op-kind table: for each operator what it does to numbers, and where its data, weight, bias and channels are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from fewbit.graph.hub import ONNX_DOMAINS, constant_tensor

Category = Literal[
    "heavy",  # multiplies by weights: where the time and the bytes are
    "elementwise",  # Add, Sub, Mul, Div and the like on two or more tensors
    "activation",  # a function of each number (Softmax: of a row)
    "passthrough",  # moves or selects numbers; input and output can share a scale
    "averaging",  # means of its input's numbers: the output stays in the input's range
    "normalization",
    "reduction",  # sums, norms: the range changes
    "shape",  # integers and booleans: shapes, indices, comparisons
    "control",  # has subgraphs
    "random",
    "quantization",
    "other",
]

ALL = -1
"""In `OpInfo.data`: all inputs carry data."""


@dataclass(frozen=True, slots=True)
class OpInfo:
    """Facts about an operator.

    kind: the family, such as `conv`, `matmul`, `pool`; equals the category when there is nothing to add.
    data: indices of the inputs that carry data, the rest are shapes, indices, bounds; (ALL,) for a variadic operator.
    weight, bias: index of the input that is a weight or a bias when it is constant.
    channel_axis: the axis of the output along which weights have their output channels; negative counts from the end.
    """

    category: Category
    kind: str
    data: tuple[int, ...] = (0,)
    weight: int | None = None
    bias: int | None = None
    channel_axis: int | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """The constant that a node multiplies its activation by.

    value: the initializer.
    index: which input of the node it is.
    out_axis: the axis of output channels; each slice along it makes one channel of the output (with groups in
        ConvTranspose: one channel in each group).
    in_axis: the axis that is summed over with the input channels.
    groups: of a convolution; 1 otherwise.
    channel_axis: the axis of the node's output that the slices along out_axis make; negative counts from the end.
    """

    value: ir.Value
    index: int
    out_axis: int
    in_axis: int
    groups: int = 1
    channel_axis: int = 1

    @property
    def name(self) -> str:
        return str(self.value.name)

    @property
    def shape(self) -> tuple[int, ...]:
        tensor = self.value.const_value
        return () if tensor is None else tuple(tensor.shape.numpy())

    @property
    def is_depthwise(self) -> bool:
        """Whether every output channel reads one input channel."""
        return self.groups > 1 and self.shape[self.in_axis] == 1


def _rows(names: str, info: OpInfo) -> Iterable[tuple[str, OpInfo]]:
    return ((name, info) for name in names.split())


OPS: dict[str, OpInfo] = {
    "Conv": OpInfo("heavy", "conv", (0,), 1, 2, 1),
    "ConvTranspose": OpInfo("heavy", "conv_transpose", (0,), 1, 2, 1),
    "DeformConv": OpInfo("heavy", "conv", (0,), 1, 3, 1),
    "Gemm": OpInfo("heavy", "gemm", (0, 1), 1, 2, 1),
    "MatMul": OpInfo("heavy", "matmul", (0, 1), 1, None, -1),
    "Einsum": OpInfo("heavy", "einsum", (ALL,)),
    "Gather": OpInfo("passthrough", "gather", (0,), 0),
    "LSTM": OpInfo("heavy", "recurrent", (0, 5, 6), 1, 3),
    "GRU": OpInfo("heavy", "recurrent", (0, 5), 1, 3),
    "RNN": OpInfo("heavy", "recurrent", (0, 5), 1, 3),
    "Attention": OpInfo("heavy", "attention", (0, 1, 2)),
    "LinearAttention": OpInfo("heavy", "attention", (0, 1, 2)),
    "com.microsoft.Attention": OpInfo("heavy", "attention", (0,), 1, 2, -1),
    "com.microsoft.MultiHeadAttention": OpInfo("heavy", "attention", (0, 1, 2)),
    "com.microsoft.GroupQueryAttention": OpInfo("heavy", "attention", (0, 1, 2)),
    "com.microsoft.FusedConv": OpInfo("heavy", "conv", (0, 3), 1, 2, 1),
    "com.microsoft.FusedMatMul": OpInfo("heavy", "matmul", (0, 1), 1, None, -1),
    "com.microsoft.FusedGemm": OpInfo("heavy", "gemm", (0, 1), 1, 2, 1),
    **dict(_rows("Add Sub Mul Div Pow PRelu Mod", OpInfo("elementwise", "elementwise", (0, 1)))),
    **dict(_rows("Sum Max Min Mean", OpInfo("elementwise", "elementwise", (ALL,)))),
    "Where": OpInfo("elementwise", "select", (1, 2)),
    **dict(
        _rows(
            "Relu Clip Sigmoid Tanh LeakyRelu HardSwish HardSigmoid Gelu Elu Selu Celu Swish Mish Softplus Softsign "
            "ThresholdedRelu Erf Exp Log Sqrt Reciprocal Neg Abs Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh "
            "Atanh Sign Floor Ceil Round Shrink com.microsoft.QuickGelu com.microsoft.Gelu",
            OpInfo("activation", "activation"),
        )
    ),
    **dict(
        _rows("com.microsoft.BiasGelu com.microsoft.FastGelu", OpInfo("activation", "activation", (0,), None, 1, -1))
    ),
    **dict(_rows("Softmax LogSoftmax Hardmax", OpInfo("activation", "softmax"))),
    **dict(
        _rows(
            "Reshape Transpose Squeeze Unsqueeze Flatten Slice Split Expand Tile DepthToSpace SpaceToDepth Identity "
            "Dropout GatherElements GatherND ReverseSequence CenterCropPad Compress SplitToSequence Trilu Col2Im",
            OpInfo("passthrough", "movement"),
        )
    ),
    "Concat": OpInfo("passthrough", "concat", (ALL,)),
    "Pad": OpInfo("passthrough", "pad", (0,)),
    **dict(_rows("MaxPool GlobalMaxPool MaxRoiPool", OpInfo("passthrough", "max_pool", (0,), None, None, 1))),
    **dict(_rows("ReduceMax ReduceMin TopK", OpInfo("passthrough", "select_max"))),
    "Resize": OpInfo("averaging", "resize", (0,), None, None, 1),
    "Upsample": OpInfo("averaging", "resize", (0,), None, None, 1),
    **dict(
        _rows(
            "AveragePool GlobalAveragePool RoiAlign GridSample",
            OpInfo("averaging", "average_pool", (0,), None, None, 1),
        )
    ),
    "ReduceMean": OpInfo("averaging", "reduce_mean"),
    **dict(
        _rows(
            "ReduceSum ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp CumSum CumProd LpPool "
            "GlobalLpPool",
            OpInfo("reduction", "reduction"),
        )
    ),
    **dict(
        _rows(
            "BatchNormalization InstanceNormalization GroupNormalization LRN",
            OpInfo("normalization", "normalization", (0,), None, None, 1),
        )
    ),
    **dict(
        _rows(
            "LayerNormalization RMSNormalization SimplifiedLayerNormalization LpNormalization "
            "MeanVarianceNormalization",
            OpInfo("normalization", "normalization", (0,), None, None, -1),
        )
    ),
    **dict(
        _rows(
            "com.microsoft.SkipLayerNormalization com.microsoft.SkipSimplifiedLayerNormalization",
            OpInfo("normalization", "normalization", (0, 1), None, None, -1),
        )
    ),
    **dict(
        _rows(
            "Shape Size Range ConstantOfShape NonZero ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual And "
            "Or Not Xor IsNaN IsInf OneHot EyeLike NonMaxSuppression BitShift BitwiseAnd BitwiseOr BitwiseXor "
            "BitwiseNot Unique Cast CastLike Constant StringNormalizer",
            OpInfo("shape", "shape"),
        )
    ),
    **dict(_rows("If Loop Scan SequenceMap", OpInfo("control", "control", (ALL,)))),
    **dict(
        _rows(
            "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli",
            OpInfo("random", "random"),
        )
    ),
    **dict(
        _rows(
            "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
            "com.microsoft.QuantizeLinear com.microsoft.DequantizeLinear com.microsoft.MatMulNBits",
            OpInfo("quantization", "quantization"),
        )
    ),
}
"""Operators by name, with the domain in front when it is not ONNX's own."""

_OTHER = OpInfo("other", "other", (ALL,))
_EMBEDDING = OpInfo("heavy", "embedding", (0,), 0)
_RESIZE_NEAREST = OpInfo("passthrough", "resize", (0,), None, None, 1)


def info_of(node: ir.Node) -> OpInfo:
    """The row of a node; a Gather from a constant table is an embedding, a nearest Resize moves numbers only."""
    info = OPS.get(node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}", _OTHER)
    if info.kind == "gather" and _is_embedding(node):
        return _EMBEDDING
    if info.kind == "resize" and _text(node, "mode", "nearest") == "nearest":
        return _RESIZE_NEAREST
    return info


def category_of(node: ir.Node) -> Category:
    return info_of(node).category


def kind_of(node: ir.Node) -> str:
    """The family of an operator: `conv`, `gemm`, `matmul`, `embedding`, `recurrent`, `activation`, `movement` ..."""
    return info_of(node).kind


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs that carry data, constant ones included; missing optional ones are left out."""
    data = info_of(node).data
    values = node.inputs if data == (ALL,) else [node.inputs[i] for i in data if i < len(node.inputs)]
    return [v for v in values if v is not None]


def weight_of(node: ir.Node) -> Weight | None:
    """The weight of a heavy operator, None when it has none or when no input of the right kind is constant.

    Axes, with the operator's definition (onnx.ai/onnx/operators): Conv (O, I/groups, ...): 0 and 1; ConvTranspose
    (I, O/groups, ...): 1 and 0; Gemm B (I, O): 1 and 0, turned by transB; MatMul with the constant on the right
    (..., I, O): the last and the one before it; on the left (..., O, I) the other way; Gather from a table (rows,
    width) along `axis`: rows are output channels; LSTM, GRU, RNN W (directions, gates * hidden, I): 1 and 2.
    A MatMul with a constant vector has no output channels, so no weight.
    """
    info = info_of(node)
    if info.category != "heavy":
        return None
    kind = info.kind
    if kind in ("matmul", "gemm"):
        return _matmul_weight(node, kind)
    value = _constant(node, info.weight)
    if value is None:
        return None
    if kind == "conv":
        return Weight(value, 1, 0, 1, _integer(node, "group", 1))
    if kind == "conv_transpose":
        return Weight(value, 1, 1, 0, _integer(node, "group", 1))
    if kind == "embedding":
        rank = len(value.const_value.shape)  # type: ignore[union-attr]
        axis = _integer(node, "axis", 0) % rank
        return Weight(value, 0, axis, rank - 1 if axis != rank - 1 else 0, 1, axis)
    if kind == "recurrent":
        return Weight(value, 1, 1, 2, 1, -1)
    if kind == "attention":
        return Weight(value, 1, 1, 0, 1, -1)
    return None


def recurrent_weights(node: ir.Node) -> list[Weight]:
    """The input and the recurrence weights (directions, gates * hidden, inputs) of an LSTM, GRU or RNN."""
    values = [(i, _constant(node, i)) for i in (1, 2)] if kind_of(node) == "recurrent" else []
    return [Weight(value, index, 1, 2, 1, -1) for index, value in values if value is not None]


def bias_of(node: ir.Node) -> ir.Value | None:
    """The constant bias input of a heavy operator, or None."""
    return _constant(node, info_of(node).bias)


def _matmul_weight(node: ir.Node, kind: str) -> Weight | None:
    right, left = _constant(node, 1), _constant(node, 0)
    if right is not None:
        rank = len(right.const_value.shape)  # type: ignore[union-attr]
        if rank < 2:
            return None
        turned = _integer(node, "transB", 0)
        first, last = rank - 2, rank - 1
        return Weight(right, 1, first if turned else last, last if turned else first, 1, 1 if kind == "gemm" else -1)
    if left is not None:
        rank = len(left.const_value.shape)  # type: ignore[union-attr]
        if rank < 2:
            return None
        turned = _integer(node, "transA", 0)
        first, last = rank - 2, rank - 1
        return Weight(left, 0, last if turned else first, first if turned else last, 1, 0 if kind == "gemm" else -2)
    return None


def _constant(node: ir.Node, index: int | None) -> ir.Value | None:
    """The initializer at this input, or None."""
    if index is None or index >= len(node.inputs):
        return None
    value = node.inputs[index]
    return value if value is not None and value.const_value is not None else None


def _is_embedding(node: ir.Node) -> bool:
    """Whole rows of a float table of at least two axes, looked up by indices that are not constant."""
    table = _constant(node, 0)
    if table is None or table.const_value is None or not table.const_value.dtype.is_floating_point():
        return False
    indices = node.inputs[1] if len(node.inputs) > 1 else None
    return len(table.const_value.shape) >= 2 and indices is not None and constant_tensor(indices) is None


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()
