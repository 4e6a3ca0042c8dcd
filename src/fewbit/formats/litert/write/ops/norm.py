"""Normalizations: Softmax as LiteRT has it, the others in steps."""

from __future__ import annotations

import math

import numpy as np

from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.layout import Layout, channels_last, identity
from fewbit.formats.litert.write.ops.common import axis_of
from fewbit.formats.litert.write.ops.row import Row


def _along_last(emit: Emitter, op: Op, axis: int) -> Layout:
    """The present layout with an axis put last."""
    have = emit.layout(op.need(0))
    return have if have and have[-1] == axis else (*(a for a in have if a != axis), axis)


def _softmax(builtin: str, options: str, **fields: float) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = _along_last(emit, op, axis_of(op, x.rank, -1))
        source = emit.read(x, layout)
        emit.call(builtin, [source], [emit.make(op.outputs[0], layout)], options, **fields)

    return write


def _mean(emit: Emitter, source: int, axes: list[int], hint: str) -> int:
    shape = [1 if axis in axes else size for axis, size in enumerate(emit.shape(source))]
    target = emit.temporary(hint, shape, emit.tensors[source])
    emit.call("MEAN", [source, emit.integers(axes, "axes")], [target], "ReducerOptions", keepDims=True)
    return target


def normalized(emit: Emitter, source: int, axes: list[int], epsilon: float, *, center: bool) -> int:
    """(x - mean) / sqrt(variance + epsilon) over axes of the file's tensor; without `center` the mean counts as 0."""
    if center:
        source = emit.binary("SUB", source, _mean(emit, source, axes, "mean"), "centered")
    variance = _mean(emit, emit.unary("SQUARE", source, "square", "SquareOptions"), axes, "variance")
    inverse = emit.unary("RSQRT", emit.binary("ADD", variance, emit.number(epsilon), "shifted"), "inverse")
    return emit.binary("MUL", source, inverse, "normalized")


def _scaled(emit: Emitter, op: Op, index: int, layout: Layout, scale: Tensor | None, bias: Tensor | None) -> None:
    """index * scale + bias, into the output."""
    steps = [(name, t) for name, t in (("MUL", scale), ("ADD", bias)) if t is not None]
    for number, (builtin, tensor) in enumerate(steps, 1):
        operand = emit.expanded(tensor, layout)
        target = emit.make(op.outputs[0], layout) if number == len(steps) else None
        index = emit.binary(builtin, index, operand, "scaled", target)
    if not steps:
        emit.reshape(index, emit.shape(index), emit.make(op.outputs[0], layout))


def _layer_norm(center: bool) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        if len(op.outputs) > 1:
            raise refuse(op, "its mean and deviation are read", "export the model for inference")
        layout = identity(x.rank)
        axes = list(range(axis_of(op, x.rank, -1), x.rank))
        index = normalized(emit, emit.read(x), axes, float(op.get("epsilon", 1e-5)), center=center)
        _scaled(emit, op, index, layout, op.input(1), op.input(2) if center else None)

    return write


def _channels(tensor: Tensor, rank: int) -> Tensor:
    """A constant per channel in the shape that is broadcast: (C, 1, 1)."""
    shape = (-1, *(1 for _ in range(rank - 2)))
    if tensor.data is None:
        return tensor
    data = tensor.data.reshape(shape)
    return Tensor(tensor.name, data.shape, tensor.dtype, data)


def _image_layout(emit: Emitter, x: Tensor) -> Layout:
    have = emit.layout(x)
    return channels_last(x.rank) if have == identity(x.rank) and x.rank == 4 else have


def _per_channel(op: Op, count: int) -> list[Tensor]:
    found = [op.need(index) for index in range(1, 1 + count)]
    if any(t.data is None for t in found):
        raise refuse(op, "its scale or bias is computed", "export the model with constants")
    return [_channels(t, op.need(0).rank) for t in found]


def _instance_norm(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    layout = _image_layout(emit, x)
    scale, bias = _per_channel(op, 2)
    axes = sorted(layout.index(axis) for axis in range(2, x.rank))
    index = normalized(emit, emit.read(x, layout), axes, float(op.get("epsilon", 1e-5)), center=True)
    _scaled(emit, op, index, layout, scale, bias)


def _group_norm(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    groups = int(op.get("num_groups", 1))
    scale, bias = _per_channel(op, 2)
    if math.prod(scale.shape) == groups != x.shape[1]:
        raise refuse(op, "it has one scale a group", "upgrade it to opset 21, which has one a channel")
    grouped = (x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    index = emit.reshape(emit.read(x), grouped)
    index = normalized(emit, index, [2], float(op.get("epsilon", 1e-5)), center=True)
    _scaled(emit, op, emit.reshape(index, x.shape), identity(x.rank), scale, bias)


def _batch_norm(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    scale, bias, mean, variance = (np.asarray(t.data, np.float64) for t in _per_channel(op, 4))
    factor = scale / np.sqrt(variance + float(op.get("epsilon", 1e-5)))
    shift = bias - mean * factor
    constants = [
        Tensor(f"{op.name}_{name}", array.shape, "float32", array.astype(np.float32))
        for name, array in (("scale", factor), ("shift", shift))
    ]
    layout = emit.layout(x)
    _scaled(emit, op, emit.read(x, layout), layout, *constants)


def _lp_norm(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    if int(op.get("p", 2)) not in (1, 2):
        raise refuse(op, f"p is {op.get('p', 2)}", "use 1 or 2")
    if op.outputs[0].quant is not None:
        target = emit.make(op.outputs[0])
        emit.call("L2_NORMALIZATION", [emit.read(x)], [target], "L2NormOptions", fusedActivationFunction="NONE")
        return
    layout = emit.layout(x)
    axis = layout.index(axis_of(op, x.rank, -1))
    source = emit.read(x, layout)
    shape = [1 if position == axis else size for position, size in enumerate(emit.shape(source))]
    two = int(op.get("p", 2)) == 2
    sizes = emit.unary(
        *(("SQUARE", source, "square", "SquareOptions") if two else ("ABS", source, "abs", "AbsOptions"))
    )
    norm = emit.temporary("norm", shape, x)
    emit.call("SUM", [sizes, emit.integers([axis], "axes")], [norm], "ReducerOptions", keepDims=True)
    if two:
        norm = emit.unary("SQRT", norm, "norm")
    norm = emit.binary("MAXIMUM", norm, emit.number(float(np.finfo(np.float32).tiny)), "norm")  # 0 / 0 is 0 here
    emit.binary("DIV", source, norm, op.outputs[0].name, emit.make(op.outputs[0], layout))


def _lrn(emit: Emitter, op: Op) -> None:
    x, size = op.need(0), int(op.get("size", 1))
    if x.rank != 4 or size % 2 == 0:
        raise refuse(op, f"its size is {size} and its input has {x.rank} axes", "LiteRT has odd sizes and four axes")
    target = emit.make(op.outputs[0], channels_last(4))
    emit.call(
        "LOCAL_RESPONSE_NORMALIZATION",
        [emit.read(x, channels_last(4))],
        [target],
        "LocalResponseNormalizationOptions",
        radius=(size - 1) // 2,
        bias=float(op.get("bias", 1.0)),
        alpha=float(op.get("alpha", 1e-4)) / size,
        beta=float(op.get("beta", 0.75)),
    )


ROWS: dict[str, Row] = {
    "Softmax": _softmax("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "LogSoftmax": _softmax("LOG_SOFTMAX", "LogSoftmaxOptions"),
    "LayerNormalization": _layer_norm(center=True),
    "RMSNormalization": _layer_norm(center=False),
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "BatchNormalization": _batch_norm,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
}
