"""Reductions, sorting and sums along an axis."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import placed
from fewbit.formats.litert.read.ops.row import Handler, Row, as_sizes, cast, dropping, is_float, layout_of


def _reduce(op_type: str, through: ir.DataType | None = None) -> Handler:
    """through: the dtype to compute in, where ONNX's operator does not take the tensor's."""

    def handler(b: Builder, op: Operator, options: Any) -> None:
        index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
        axes = sorted({b.axis(op, axis, rank) for axis in b.integers(op, 1)})
        keep = bool(options.keepDims)
        before, after = dropping(b, index, axes) if not keep else (layout_of(b, index),) * 2
        value = b.real(index, before)
        if not axes:
            b.put(op.outputs[0], b.emit("Identity", [value]), after)
            return
        if through is not None:
            value = cast(b, value, through)
        places = sorted(placed(axis, before, rank) for axis in axes)
        value = b.emit(op_type, [value, places], keepdims=int(keep))
        if through is not None:
            value = cast(b, value, ir.DataType.BOOL)
        b.put(op.outputs[0], value, after)

    return handler


def _mean(b: Builder, op: Operator, options: Any) -> None:
    if not is_float(b, op.inputs[0]):
        raise b.refuse(op, "takes means of integers, whose rounding has no counterpart")
    _reduce("ReduceMean")(b, op, options)


def _arg(op_type: str) -> Handler:
    def handler(b: Builder, op: Operator, options: Any) -> None:
        index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
        axes = b.integers(op, 1)
        if len(axes) != 1:
            raise b.refuse(op, f"has the axis {axes}")
        axis = b.axis(op, axes[0], rank)
        before, after = dropping(b, index, [axis])
        value = b.emit(op_type, [b.real(index, before)], axis=placed(axis, before, rank), keepdims=0)
        if b.tensor(op.outputs[0]).dtype != ir.DataType.INT64:
            value = cast(b, value, ir.DataType.INT32)
        b.put(op.outputs[0], value, after)

    return handler


def _top_k(b: Builder, op: Operator, options: Any) -> None:
    count = as_sizes(b, op.inputs[1])
    if b.rank(op.inputs[1]) != 1:
        count = b.emit("Reshape", [count, [1]])
    values, indices = b.emit_many("TopK", [b.real(op.inputs[0]), count], 2, axis=-1)
    b.put(op.outputs[0], values)
    b.put(op.outputs[1], cast(b, indices, ir.DataType.INT32))


def _cumsum(b: Builder, op: Operator, options: Any) -> None:
    index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
    axes = b.integers(op, 1)
    if len(axes) != 1:
        raise b.refuse(op, f"has the axis {axes}")
    layout = layout_of(b, index)
    axis = b.constant(placed(b.axis(op, axes[0], rank), layout, rank), "axis")
    how = {"exclusive": int(bool(options.exclusive)), "reverse": int(bool(options.reverse))}
    b.put(op.outputs[0], b.emit("CumSum", [b.real(index, layout), axis], **how), layout)


ROWS: dict[str, Row] = {
    "MEAN": Row(_mean, "ReducerOptions", 2),
    "SUM": Row(_reduce("ReduceSum"), "ReducerOptions", 2),
    "REDUCE_PROD": Row(_reduce("ReduceProd"), "ReducerOptions", 2),
    "REDUCE_MAX": Row(_reduce("ReduceMax"), "ReducerOptions", 2),
    "REDUCE_MIN": Row(_reduce("ReduceMin"), "ReducerOptions", 2),
    "REDUCE_ANY": Row(_reduce("ReduceMax", ir.DataType.INT32), "ReducerOptions", 2),
    "REDUCE_ALL": Row(_reduce("ReduceMin", ir.DataType.INT32), "ReducerOptions", 2),
    "ARG_MAX": Row(_arg("ArgMax"), None, 2),
    "ARG_MIN": Row(_arg("ArgMin"), None, 2),
    "TOPK_V2": Row(_top_k, None, 2, 2),
    "CUMSUM": Row(_cumsum, "CumsumOptions", 2),
}
