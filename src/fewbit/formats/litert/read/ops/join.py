"""Operators that join, split, repeat and make tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import order, placed
from fewbit.formats.litert.read.ops.row import Row, activated, as_sizes, layout_of


def _concatenation(b: Builder, op: Operator, options: Any) -> None:
    rank = b.known_rank(op, op.outputs[0])
    axis = b.axis(op, options.axis, rank)
    layout = layout_of(b, *op.inputs)
    value = b.emit("Concat", [b.real(index, layout) for index in op.inputs], axis=placed(axis, layout, rank))
    b.put(op.outputs[0], activated(b, op, value, options.fusedActivationFunction), layout)


def _pack(b: Builder, op: Operator, options: Any) -> None:
    axis = b.axis(op, options.axis, b.known_rank(op, op.inputs[0]) + 1)
    b.put(op.outputs[0], b.emit("Concat", [b.emit("Unsqueeze", [b.real(i), [axis]]) for i in op.inputs], axis=axis))


def _unpack(b: Builder, op: Operator, options: Any) -> None:
    axis = b.axis(op, options.axis, b.known_rank(op, op.inputs[0]))
    value = b.real(op.inputs[0])
    count = len(op.outputs)
    parts = b.emit_many("Split", [value], count, axis=axis, num_outputs=count) if count > 1 else [value]
    for index, part in zip(op.outputs, parts, strict=True):
        b.put(index, b.emit("Squeeze", [part, [axis]]))


def _split(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: the axis, and what is split into equal parts."""
    _parts(b, op, op.inputs[1], b.integers(op, 0), None)


def _split_v(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: what is split, the size of each part (-1: the rest), and the axis."""
    sizes = b.integers(op, 1)
    index = op.inputs[0]
    if -1 in sizes:
        axis = b.axis(op, (b.integers(op, 2) or [0])[0], b.known_rank(op, index))
        whole = (b.sizes(index) or ())[axis]
        if whole is None or sizes.count(-1) > 1:
            raise b.refuse(op, f"splits {whole} into {sizes}")
        sizes = [whole - sum(s for s in sizes if s != -1) if size == -1 else size for size in sizes]
    if len(sizes) != len(op.outputs) or min(sizes) < 0:
        raise b.refuse(op, f"has {len(op.outputs)} outputs for parts of {sizes}")
    _parts(b, op, index, b.integers(op, 2), sizes)


def _parts(b: Builder, op: Operator, index: int, axes: list[int], sizes: list[int] | None) -> None:
    rank = b.known_rank(op, index)
    if len(axes) != 1:
        raise b.refuse(op, f"has the axis {axes}")
    layout = layout_of(b, index)
    axis = placed(b.axis(op, axes[0], rank), layout, rank)
    count = len(op.outputs)
    value = b.real(index, layout)
    inputs: list[ir.Value | list[int]] = [value] if sizes is None else [value, sizes]
    parts = b.emit_many("Split", inputs, count, axis=axis, num_outputs=count if sizes is None else None)
    for output, part in zip(op.outputs, parts, strict=True):
        b.put(output, part, layout)


def _tile(b: Builder, op: Operator, options: Any) -> None:
    layout, repeats = layout_of(b, op.inputs[0]), b.array(op.inputs[1])
    rank = b.rank(op.inputs[0])
    if repeats is None or rank != repeats.size:
        b.put(op.outputs[0], b.emit("Tile", [b.real(op.inputs[0]), as_sizes(b, op.inputs[1])]))
        return
    times = [int(repeats.reshape(-1)[axis]) for axis in order(layout, rank)]
    if min(times, default=1) < 0:
        raise b.refuse(op, f"repeats {times} times")
    b.put(op.outputs[0], b.emit("Tile", [b.real(op.inputs[0], layout), times]), layout)


def _broadcast_to(b: Builder, op: Operator, options: Any) -> None:
    b.put(op.outputs[0], b.emit("Expand", [b.real(op.inputs[0]), as_sizes(b, op.inputs[1])]))


def _fill(b: Builder, op: Operator, options: Any) -> None:
    b.put(op.outputs[0], b.emit("Expand", [b.real(op.inputs[1]), as_sizes(b, op.inputs[0])]))


def _range(b: Builder, op: Operator, options: Any) -> None:
    b.put(
        op.outputs[0],
        b.emit("Range", [b.emit("Squeeze", [b.real(i)]) if b.rank(i) else b.real(i) for i in op.inputs[:3]]),
    )


def _one_hot(b: Builder, op: Operator, options: Any) -> None:
    """Where the place along a new axis is the index. ONNX's OneHot would count indices below zero from the end."""
    rank = b.known_rank(op, op.inputs[0])
    axis = rank if options.axis == -1 else b.axis(op, options.axis, rank + 1)
    dtype = b.tensor(op.inputs[0]).dtype
    kind = np.int64 if dtype == ir.DataType.INT64 else np.int32
    indices = b.real(op.inputs[0])
    if dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        indices = b.emit("Cast", [indices], to=int(ir.DataType.INT32))
    depth = b.emit("Cast", [b.real(op.inputs[1])], to=int(ir.DataType.from_numpy(np.dtype(kind))))
    places = b.emit("Range", [np.array(0, kind), depth, np.array(1, kind)])
    places = b.emit("Reshape", [places, [-1, *[1] * (rank - axis)]])
    hot = b.emit("Equal", [b.emit("Unsqueeze", [indices, [axis]]), places])
    b.put(op.outputs[0], b.emit("Where", [hot, b.real(op.inputs[2]), b.real(op.inputs[3])]))


def _dynamic_update_slice(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: operand, update, and where it begins; the begin is moved so that the update lies inside."""
    rank, sizes, part = b.known_rank(op, op.inputs[0]), b.sizes(op.inputs[0]), b.sizes(op.inputs[1])
    if sizes is None or part is None or None in sizes or None in part or len(part) != rank or not rank:
        raise b.refuse(op, f"puts a part of shape {part} into one of {sizes}, and both have to be fixed")
    room = [(size or 0) - (inner or 0) for size, inner in zip(sizes, part, strict=True)]
    if min(room) < 0:
        raise b.refuse(op, f"puts a part of shape {part} into one of {sizes}, which is smaller")
    if rank == 1 or all(left == 0 for left in room[1:]):
        axis = 0
    else:
        axis = next((a for a in range(rank) if room[a] and not any(room[:a]) and not any(room[a + 1 :])), -1)
    if axis < 0:
        raise b.refuse(op, "puts a part that is smaller along two axes, which has no counterpart")
    begin = b.emit("Gather", [as_sizes(b, op.inputs[2]), [axis]], axis=0)
    begin = b.emit("Max", [b.emit("Min", [begin, [room[axis]]]), [0]])
    whole, end = b.real(op.inputs[0]), b.emit("Add", [begin, [part[axis] or 0]])
    before = b.emit("Slice", [whole, [0], begin, [axis]])
    after = b.emit("Slice", [whole, end, [np.iinfo(np.int64).max], [axis]])
    b.put(op.outputs[0], b.emit("Concat", [before, b.real(op.inputs[1]), after], axis=axis))


ROWS: dict[str, Row] = {
    "CONCATENATION": Row(_concatenation, "ConcatenationOptions"),
    "PACK": Row(_pack, "PackOptions"),
    "UNPACK": Row(_unpack, "UnpackOptions"),
    "SPLIT": Row(_split, None, 2),
    "SPLIT_V": Row(_split_v, None, 3),
    "TILE": Row(_tile, None, 2),
    "BROADCAST_TO": Row(_broadcast_to, None, 2),
    "FILL": Row(_fill, None, 2),
    "RANGE": Row(_range, None, 3),
    "ONE_HOT": Row(_one_hot, "OneHotOptions", 4),
    "DYNAMIC_UPDATE_SLICE": Row(_dynamic_update_slice, None, 3),
}
