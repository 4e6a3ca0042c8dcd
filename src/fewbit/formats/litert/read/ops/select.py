"""Operators that take some of the numbers: slices and gathers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout, order, placed
from fewbit.formats.litert.read.ops.row import Row, as_sizes, cast, dropping, layout_of

_LAST, _BEFORE_FIRST = (1 << 31) - 1, -(1 << 31)
"""Ends of a slice that takes all there is, forwards and backwards."""


def _slice(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: begins, and sizes, of which -1 is the rest."""
    index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
    begins, sizes = b.array(op.inputs[1]), b.array(op.inputs[2])
    if begins is not None and sizes is not None:
        if begins.size != rank or sizes.size != rank or begins.min(initial=0) < 0 or sizes.min(initial=0) < -1:
            raise b.refuse(op, f"takes {sizes.tolist()} from {begins.tolist()} on, of {rank} axes")
        layout = layout_of(b, index)
        axes = order(layout, rank)
        starts = [int(begins.reshape(-1)[a]) for a in axes]
        counts = [int(sizes.reshape(-1)[a]) for a in axes]
        ends = [_LAST if count == -1 else start + count for start, count in zip(starts, counts, strict=True)]
        used = [i for i in range(rank) if starts[i] != 0 or ends[i] != _LAST]
        value = b.emit("Slice", [b.real(index, layout), [starts[i] for i in used], [ends[i] for i in used], used])
        b.put(op.outputs[0], value, layout)
        return
    first, count = as_sizes(b, op.inputs[1]), as_sizes(b, op.inputs[2])
    rest = b.emit("Equal", [count, [-1]])
    end = b.emit("Where", [rest, [_LAST], b.emit("Add", [first, count])])
    b.put(op.outputs[0], b.emit("Slice", [b.real(index), first, end, list(range(rank))]))


@dataclass(frozen=True, slots=True)
class _Spec:
    """What a STRIDED_SLICE does: slices of axes of the input, then axes dropped, then axes of one entry added."""

    slices: dict[int, tuple[int, int, int]]
    dropped: list[int]
    added: list[int]


def _strided_slice(b: Builder, op: Operator, options: Any) -> None:
    index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
    begins, ends, strides = (b.array(i) for i in op.inputs[1:4])
    if begins is None or ends is None or strides is None:
        _computed_slice(b, op, options, rank)
        return
    if not begins.size == ends.size == strides.size:
        raise b.refuse(op, f"has {begins.size} begins, {ends.size} ends and {strides.size} strides")
    spec = _spec(b, op, options, rank, *(a.reshape(-1).tolist() for a in (begins, ends, strides)))
    layout, after = dropping(b, index, spec.dropped)
    if spec.added and after is Layout.FIRST:
        layout, after = Layout.FILE, Layout.FILE
    value = b.real(index, layout)
    if spec.slices:
        axes = sorted(spec.slices)
        columns = [[spec.slices[axis][i] for axis in axes] for i in range(3)]
        value = b.emit("Slice", [value, columns[0], columns[1], [placed(a, layout, rank) for a in axes], columns[2]])
    if spec.dropped:
        value = b.emit("Squeeze", [value, sorted(placed(a, layout, rank) for a in spec.dropped)])
    if spec.added:
        value = b.emit("Unsqueeze", [value, spec.added])
    b.put(op.outputs[0], value, after)


def _spec(
    b: Builder, op: Operator, options: Any, rank: int, begins: list[int], ends: list[int], strides: list[int]
) -> _Spec:
    """The masks have a bit for each entry of begins: an ellipsis stands for all axes that the others leave."""
    count = len(begins)
    bits = {
        name: [bool(getattr(options, name) >> i & 1) for i in range(count)]
        for name in ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask")
    }
    ellipses = [i for i in range(count) if bits["ellipsisMask"][i]]
    if len(ellipses) > 1:
        raise b.refuse(op, "has two ellipses")
    new = [bits["newAxisMask"][i] and i not in ellipses for i in range(count)]
    covered = sum(1 for i in range(count) if i not in ellipses and not new[i])
    if covered > rank:
        raise b.refuse(op, f"slices {covered} of {rank} axes")
    slices, dropped, added, axis, place = {}, [], [], 0, 0
    for i in range(count):
        if i in ellipses:
            axis, place = axis + rank - covered, place + rank - covered
            continue
        if new[i]:
            added.append(place)
            place += 1
            continue
        start, end, step = int(begins[i]), int(ends[i]), int(strides[i])
        if step == 0:
            raise b.refuse(op, "has a stride of 0")
        if bits["shrinkAxisMask"][i]:
            slices[axis] = (start, start + 1 if start != -1 else _LAST, 1)
            dropped.append(axis)
            axis += 1
            continue
        if bool(options.offset):
            end += start
        start = (0 if step > 0 else _LAST) if bits["beginMask"][i] else start
        end = (_LAST if step > 0 else _BEFORE_FIRST) if bits["endMask"][i] else end
        if (start, end, step) != (0, _LAST, 1):
            slices[axis] = (start, end, step)
        axis, place = axis + 1, place + 1
    return _Spec(slices, dropped, added)


def _computed_slice(b: Builder, op: Operator, options: Any, rank: int) -> None:
    """Begins or ends that are computed, with constant strides and without new axes."""
    strides = b.array(op.inputs[3])
    if strides is None or options.newAxisMask or options.ellipsisMask or options.offset or strides.size > rank:
        raise b.refuse(
            op, "has begins, ends or strides that are computed, together with an ellipsis, new axes or an offset"
        )
    count = strides.size
    steps = [int(step) for step in strides.reshape(-1)]
    if 0 in steps:
        raise b.refuse(op, "has a stride of 0")
    bits = {
        name: np.array([bool(getattr(options, name) >> i & 1) for i in range(count)])
        for name in ("beginMask", "endMask", "shrinkAxisMask")
    }
    forwards = np.array(steps) > 0
    starts, ends = as_sizes(b, op.inputs[1]), as_sizes(b, op.inputs[2])
    if bits["beginMask"].any():
        starts = b.emit("Where", [bits["beginMask"], np.where(forwards, 0, _LAST), starts])
    if bits["endMask"].any():
        ends = b.emit("Where", [bits["endMask"], np.where(forwards, _LAST, _BEFORE_FIRST), ends])
    shrunk = [i for i in range(count) if bits["shrinkAxisMask"][i]]
    if shrunk:
        last = b.emit("Equal", [starts, [-1]])
        after = b.emit("Where", [last, [_LAST], b.emit("Add", [starts, [1]])])
        ends = b.emit("Where", [bits["shrinkAxisMask"], after, ends])
        steps = [1 if i in shrunk else step for i, step in enumerate(steps)]
    value = b.emit("Slice", [b.real(op.inputs[0]), starts, ends, list(range(count)), steps])
    b.put(op.outputs[0], b.emit("Squeeze", [value, shrunk]) if shrunk else value)


def _gather(b: Builder, op: Operator, options: Any) -> None:
    index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
    axis, batch = b.axis(op, options.axis, rank), options.batchDims
    indices, count = b.real(op.inputs[1]), b.rank(op.inputs[1])
    if batch:
        if batch != axis or not 0 < batch <= (count or 0):
            raise b.refuse(op, f"gathers along axis {axis} with {batch} axes of batches, which has no counterpart")
        rows = cast(b, b.emit("Unsqueeze", [indices, [-1]]), ir.DataType.INT64)
        b.put(op.outputs[0], b.emit("GatherND", [b.real(index), rows], batch_dims=batch))
        return
    layout = after = Layout.FILE
    if count == 1:
        layout = after = layout_of(b, index)
    elif count == 0:
        layout, after = dropping(b, index, [axis])
    b.put(op.outputs[0], b.emit("Gather", [b.real(index, layout), indices], axis=placed(axis, layout, rank)), after)


def _gather_nd(b: Builder, op: Operator, options: Any) -> None:
    b.put(op.outputs[0], b.emit("GatherND", [b.real(op.inputs[0]), as_sizes(b, op.inputs[1])]))


def _scatter_nd(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: indices, updates, and the shape; what has no update is 0, and updates of one place add up."""
    dtype = b.tensor(op.inputs[1]).dtype
    kind = np.float32 if b.quantization(op.inputs[1]) or dtype is None else dtype.numpy()
    zeros = b.emit("ConstantOfShape", [as_sizes(b, op.inputs[2])], value=ir.Tensor(np.zeros(1, kind)))
    places = as_sizes(b, op.inputs[0])
    b.put(op.outputs[0], b.emit("ScatterND", [zeros, places, b.real(op.inputs[1])], reduction="add"))


def _reverse(b: Builder, op: Operator, options: Any) -> None:
    index, rank = op.inputs[0], b.known_rank(op, op.inputs[0])
    layout = layout_of(b, index)
    axes = sorted({placed(b.axis(op, axis, rank), layout, rank) for axis in b.integers(op, 1)})
    value = b.real(index, layout)
    b.put(op.outputs[0], backwards(b, value, axes) if axes else value, layout)


def backwards(b: Builder, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    """A value with the order along axes turned around."""
    count = len(axes)
    return b.emit("Slice", [value, [_LAST] * count, [_BEFORE_FIRST] * count, list(axes), [-1] * count])


ROWS: dict[str, Row] = {
    "SLICE": Row(_slice, None, 3),
    "STRIDED_SLICE": Row(_strided_slice, "StridedSliceOptions", 4),
    "GATHER": Row(_gather, "GatherOptions", 2),
    "GATHER_ND": Row(_gather_nd, None, 2),
    "SCATTER_ND": Row(_scatter_nd, None, 3),
    "REVERSE_V2": Row(_reverse, None, 2),
}
