"""Operators that give numbers another shape or order of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout, order, without
from fewbit.formats.litert.read.ops.row import Row, as_sizes, cast, dropping, in_file_order, layout_of, sizes_of


def _reshape(b: Builder, op: Operator, options: Any) -> None:
    shape = _target(b, op, options)
    if shape is None:
        b.put(op.outputs[0], b.emit("Reshape", [b.real(op.inputs[0]), as_sizes(b, op.inputs[1])]))
        return
    if shape.count(-1) > 1 or any(size < -1 for size in shape):
        raise b.refuse(op, f"has the target shape {shape}")
    zero = 1 if 0 in shape else None
    after = _kept_first(b, op.inputs[0], shape)
    if after is not None:
        value = b.real(op.inputs[0], Layout.FIRST)
        b.put(op.outputs[0], b.emit("Reshape", [value, after], allowzero=zero), Layout.FIRST)
        return
    b.put(op.outputs[0], b.emit("Reshape", [in_file_order(b, op.inputs[0]), shape], allowzero=zero))


def _target(b: Builder, op: Operator, options: Any) -> list[int] | None:
    """The shape to give, or None where it is computed."""
    index = b.given(op, 1)
    if index is not None:
        array = b.array(index)
        return None if array is None else [int(size) for size in array.reshape(-1)]
    if options.newShape is not None:
        return [int(size) for size in options.newShape]
    sizes = b.sizes(op.outputs[0])
    if sizes is None or sizes.count(None) > 1:
        raise b.refuse(op, "has no target shape")
    return [-1 if size is None else size for size in sizes]


def _kept_first(b: Builder, index: int, shape: Sequence[int]) -> list[int] | None:
    """The target for a value with channels first, if all that the Reshape does is to add or drop axes of one entry.

    Axes of pixels could be joined too, but what then works on rows of channels, such as a normalization, is known by its axis.
    """
    before = b.sizes(index)
    if before is None or not b.prefers_first(index) or len(shape) < 3 or None in before[1:]:
        return None
    known, after = [-1 if size is None else size for size in before], list(shape)
    if -1 in after and -1 not in known:
        rest = math.prod(size for size in after if size != -1)
        after = [math.prod(known) // rest if size == -1 and rest else size for size in after]
    if math.prod(after) != math.prod(known) or after[0] != known[0] or after[-1] != known[-1]:
        return None
    if [s for s in after[1:-1] if s != 1] != [s for s in known[1:-1] if s != 1]:
        return None
    return [after[axis] for axis in order(Layout.FIRST, len(after))]


def _transpose(b: Builder, op: Operator, options: Any) -> None:
    index, perm = op.inputs[0], b.integers(op, 1)
    rank = b.known_rank(op, index)
    perm = [b.axis(op, axis, rank) for axis in perm]
    if sorted(perm) != list(range(rank)):
        raise b.refuse(op, f"has the perm {perm} for {rank} axes")
    if b.is_constant(index):
        b.put(op.outputs[0], b.weight(index, perm))
        return
    before = layout_of(b, index)
    value, held = b.real(index, before), order(before, rank)
    steps = {after: [held.index(perm[axis]) for axis in order(after, rank)] for after in Layout}
    after = Layout.FIRST if steps[Layout.FIRST] == sorted(held) else Layout.FILE
    if steps[after] == sorted(held):
        b.put(op.outputs[0], value, after)
        return
    b.put(op.outputs[0], b.emit("Transpose", [value], perm=steps[after]), after)


def _expand_dims(b: Builder, op: Operator, options: Any) -> None:
    index = op.inputs[0]
    rank = b.known_rank(op, index)
    axis = b.axis(op, _one(b, op), rank + 1)
    layout = layout_of(b, index)
    if layout is Layout.FIRST and without(Layout.FIRST, rank + 1, [axis]) is Layout.FIRST:
        place = order(Layout.FIRST, rank + 1).index(axis)
        b.put(op.outputs[0], b.emit("Unsqueeze", [b.real(index, layout), [place]]), Layout.FIRST)
        return
    b.put(op.outputs[0], b.emit("Unsqueeze", [b.real(index), [axis]]))


def _one(b: Builder, op: Operator) -> int:
    numbers = b.integers(op, 1)
    if len(numbers) != 1:
        raise b.refuse(op, f"has the axis {numbers}")
    return numbers[0]


def _squeeze(b: Builder, op: Operator, options: Any) -> None:
    index = op.inputs[0]
    rank, sizes = b.known_rank(op, index), b.sizes(index) or ()
    if options.squeezeDims is None or not len(options.squeezeDims):
        axes = [axis for axis, size in enumerate(sizes) if size == 1]
    else:
        axes = sorted({b.axis(op, int(axis), rank) for axis in options.squeezeDims})
    before, after = dropping(b, index, axes)
    value, held = b.real(index, before), order(before, rank)
    places = sorted(held.index(axis) for axis in axes)
    b.put(op.outputs[0], b.emit("Squeeze", [value, places]) if places else value, after)


def _shape(b: Builder, op: Operator, options: Any) -> None:
    sizes = sizes_of(b, op.inputs[0])
    dtype = b.tensor(op.outputs[0]).dtype
    b.put(op.outputs[0], sizes if dtype == ir.DataType.INT64 else cast(b, sizes, ir.DataType.INT32))


def _rank(b: Builder, op: Operator, options: Any) -> None:
    count = b.emit("Size", [b.emit("Shape", [b.stored(op.inputs[0], layout_of(b, op.inputs[0]))])])
    b.put(op.outputs[0], cast(b, count, ir.DataType.INT32))


ROWS: dict[str, Row] = {
    "RESHAPE": Row(_reshape, "ReshapeOptions"),
    "TRANSPOSE": Row(_transpose, None, 2),
    "EXPAND_DIMS": Row(_expand_dims, None, 2),
    "SQUEEZE": Row(_squeeze, "SqueezeOptions"),
    "SHAPE": Row(_shape),
    "RANK": Row(_rank),
}
