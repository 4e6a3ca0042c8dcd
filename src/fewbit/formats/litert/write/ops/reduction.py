"""Sums, means, extremes and sorting along axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op
from fewbit.formats.litert.write.layout import Layout, identity
from fewbit.formats.litert.write.ops.common import axes_of, axis_of, integer_of
from fewbit.formats.litert.write.ops.row import Row

Step = Callable[[Emitter, int], int]

_OF_BOOL = {"REDUCE_MAX": "REDUCE_ANY", "REDUCE_MIN": "REDUCE_ALL"}


def _reduce(builtin: str, before: Step | None = None, after: Step | None = None) -> Row:
    """A row of a reduction of what `before` makes of the numbers; `after` is done to its result."""

    def write(emit: Emitter, op: Op) -> None:
        x, output = op.need(0), op.outputs[0]
        axes = _axes(op, x.rank)
        if axes is None:
            emit.alias(output, emit.read(x), identity(x.rank))
            return
        layout, kept = _layouts(emit, op, axes)
        index = emit.read(x, layout)
        called = _OF_BOOL.get(builtin, builtin) if x.dtype == "bool" else builtin
        if before is not None:
            index = before(emit, index)
        target = emit.make(output, kept)
        result = target if after is None else emit.temporary(f"{output.name}_sum", emit.shape(target), output)
        places = emit.integers(sorted(layout.index(axis) for axis in axes), "axes")
        emit.call(called, [index, places], [result], "ReducerOptions", keepDims=bool(op.get("keepdims", 1)))
        if after is not None:
            emit.reshape(after(emit, result), emit.shape(target), target)

    return write


def _axes(op: Op, rank: int) -> list[int] | None:
    """The axes to reduce; all where none are given, unless that means to do nothing."""
    axes = axes_of(op, rank)
    if axes:
        return axes
    return None if op.get("noop_with_empty_axes", 0) else list(range(rank))


def _layouts(emit: Emitter, op: Op, axes: list[int]) -> tuple[Layout, Layout]:
    """The layout to read, and that of the result."""
    layout = emit.layout(op.need(0))
    if op.get("keepdims", 1):
        return layout, layout
    left = [axis for axis in range(op.need(0).rank) if axis not in axes]
    return layout, tuple(left.index(axis) for axis in layout if axis in left)


def _square(emit: Emitter, index: int) -> int:
    return emit.unary("SQUARE", index, "square", "SquareOptions")


def _absolute(emit: Emitter, index: int) -> int:
    return emit.unary("ABS", index, "abs", "AbsOptions")


def _root(emit: Emitter, index: int) -> int:
    return emit.unary("SQRT", index, "root")


def _exp(emit: Emitter, index: int) -> int:
    return emit.unary("EXP", index, "exp", "ExpOptions")


def _log(emit: Emitter, index: int) -> int:
    return emit.unary("LOG", index, "log")


def _arg(builtin: str) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x, output = op.need(0), op.outputs[0]
        if op.get("select_last_index", 0):
            raise refuse(op, "it wants the last of equal numbers", f"{builtin} of LiteRT gives the first")
        axis = axis_of(op, x.rank, 0)
        layout, kept = _layouts(emit, op, [axis])
        target = emit.make(output, kept)
        place = layout.index(axis)
        shape = [size for position, size in enumerate(emit.shape(emit.read(x, layout))) if position != place]
        result = target
        if op.get("keepdims", 1):
            result = emit.temporary(f"{output.name}_flat", shape, output)
        inputs = [emit.read(x, layout), emit.constant(np.array(place), "int32", hint="axis")]
        emit.call(
            builtin, inputs, [result], f"{'ArgMax' if builtin == 'ARG_MAX' else 'ArgMin'}Options", outputType="int32"
        )
        if result != target:
            emit.reshape(result, emit.shape(target), target)

    return write


def _cumsum(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    layout = emit.layout(x)
    place = layout.index(integer_of(op, 1, "axis") % x.rank)
    inputs = [emit.read(x, layout), emit.constant(np.array(place), "int32", hint="axis")]
    flags = {"exclusive": bool(op.get("exclusive", 0)), "reverse": bool(op.get("reverse", 0))}
    emit.call("CUMSUM", inputs, [emit.make(op.outputs[0], layout)], "CumsumOptions", **flags)


def _top_k(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    if not op.get("largest", 1):
        raise refuse(op, "it wants the smallest numbers", "TOPK_V2 of LiteRT gives the largest")
    axis = axis_of(op, x.rank, -1)
    layout = (*(a for a in emit.layout(x) if a != axis), axis)
    source = emit.read(x, layout)
    shape = (*emit.shape(source)[:-1], integer_of(op, 1, "k"))
    targets = [emit.make(output, layout) for output in op.outputs]
    if len(targets) == 1:
        targets.append(emit.temporary("indices", shape, emit.tensors[source], dtype="int32"))
    count = emit.constant(np.array(shape[-1]), "int32", hint="k")
    emit.call("TOPK_V2", [source, count], targets, "TopKV2Options")


ROWS: dict[str, Row] = {
    "ReduceMean": _reduce("MEAN"),
    "ReduceSum": _reduce("SUM"),
    "ReduceMax": _reduce("REDUCE_MAX"),
    "ReduceMin": _reduce("REDUCE_MIN"),
    "ReduceProd": _reduce("REDUCE_PROD"),
    "ReduceL1": _reduce("SUM", before=_absolute),
    "ReduceL2": _reduce("SUM", before=_square, after=_root),
    "ReduceSumSquare": _reduce("SUM", before=_square),
    "ReduceLogSum": _reduce("SUM", after=_log),
    "ReduceLogSumExp": _reduce("SUM", before=_exp, after=_log),
    "ArgMax": _arg("ARG_MAX"),
    "ArgMin": _arg("ARG_MIN"),
    "CumSum": _cumsum,
    "TopK": _top_k,
}
