"""Operators that select numbers, or put others around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.formats.litert.write.absorb import levels
from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.layout import Layout, identity
from fewbit.formats.litert.write.ops.common import axis_of, constant_input, integer_of, take
from fewbit.formats.litert.write.ops.row import Row
from fewbit.formats.litert.write.ops.weights import dequantized


def _ranges(op: Op) -> list[tuple[int, int, int]]:
    """(first, size, step) of every axis, as ONNX resolves what is negative or beyond the end."""
    x = op.need(0)
    starts, ends = constant_input(op, 1, "starts"), constant_input(op, 2, "ends")
    axes, steps = constant_input(op, 3, "axes"), constant_input(op, 4, "steps")
    found = [(0, size, 1) for size in x.shape]
    if starts is None or ends is None:
        return found
    for position in range(starts.size):
        axis = int(axes[position]) % x.rank if axes is not None else position
        step = int(steps[position]) if steps is not None else 1
        size = x.shape[axis]
        span = range(size)[int(starts[position]) : _end(int(ends[position]), step, size) : step]
        found[axis] = (span.start, len(span), step)
    return found


def _end(end: int, step: int, size: int) -> int | None:
    """An end before the first number is Python's None when it runs backward."""
    return None if step < 0 and end < -size else end


def _slice(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    layout = emit.layout(x)
    index = emit.read(x, layout)
    ranges = [_ranges(op)[axis] for axis in layout]
    if any(step < 0 for _, _, step in ranges):
        _backward(emit, output, index, ranges, layout)
        return
    target = emit.make(output, layout)
    begin = emit.integers([first for first, _, _ in ranges], "begin")
    if all(step == 1 for _, _, step in ranges):
        size = emit.integers([count for _, count, _ in ranges], "size")
        emit.call("SLICE", [index, begin, size], [target], "SliceOptions")
        return
    end = emit.integers([first + (count - 1) * step + 1 for first, count, step in ranges], "end")
    strides = emit.integers([step for _, _, step in ranges], "strides")
    emit.call("STRIDED_SLICE", [index, begin, end, strides], [target], "StridedSliceOptions")


def _backward(
    emit: Emitter, output: Tensor, index: int, ranges: Sequence[tuple[int, int, int]], layout: Layout
) -> None:
    """Axis by axis, the places that are wanted."""
    target = emit.make(output, layout)
    wanted = [axis for axis, (_, count, step) in enumerate(ranges) if (count, step) != (emit.shape(index)[axis], 1)]
    for axis in wanted:
        first, count, step = ranges[axis]
        places = [first + step * k for k in range(count)]
        index = take(emit, index, places, axis, f"{output.name}_part", target if axis == wanted[-1] else None)


def _pad(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    amounts = _amounts(op)
    mode = op.get("mode", "constant")
    layout = emit.layout(x)
    index = emit.read(x, layout)
    pairs = [amounts[axis] for axis in layout]
    if mode in ("edge", "wrap", "reflect") or any(min(pair) < 0 for pair in pairs):
        if mode == "constant":
            index, pairs = _cut(emit, x, index, pairs)
        else:
            _mirror(emit, output, index, pairs, mode, layout)
            return
    target = emit.make(output, layout)
    shape = emit.constant(np.array(pairs, np.int64), "int32", hint="pads")
    value = op.input(2)
    if value is not None and value.data is None:
        raise refuse(op, "its value is computed", "LiteRT with fixed shapes needs a constant")
    real = 0.0 if value is None or value.data is None else value.data.reshape(1)[0]
    if value is not None and value.quant is not None:
        real = value.quant.real(np.array([real]))[0]
    if real == 0.0:
        emit.call("PAD", [index, shape], [target], "PadOptions")
        return
    number = np.array([real]) if x.quant is None else np.array([levels(float(real), x.quant, x.dtype)])
    inputs = [index, shape, emit.constant(number, x.dtype, x.quant, "value")]
    emit.call("PADV2", inputs, [target], "PadV2Options")


def _amounts(op: Op) -> list[tuple[int, int]]:
    x = op.need(0)
    pads, axes = constant_input(op, 1, "pads"), constant_input(op, 3, "axes")
    found = [(0, 0)] * x.rank
    if pads is None:
        return found
    chosen = list(range(x.rank)) if axes is None else [int(axis) % x.rank for axis in axes.reshape(-1)]
    for position, axis in enumerate(chosen):
        found[axis] = (int(pads[position]), int(pads[position + len(chosen)]))
    return found


def _cut(emit: Emitter, x: Tensor, index: int, pairs: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
    """What negative amounts cut off is cut off; the rest of them is left."""
    begin = [max(-before, 0) for before, _ in pairs]
    shape = [
        size - start - max(-after, 0) for size, start, (_, after) in zip(emit.shape(index), begin, pairs, strict=True)
    ]
    cut = emit.temporary(f"{x.name}_cut", shape, x)
    emit.call("SLICE", [index, emit.integers(begin, "begin"), emit.integers(shape, "size")], [cut], "SliceOptions")
    return cut, [(max(before, 0), max(after, 0)) for before, after in pairs]


def _mirror(
    emit: Emitter, output: Tensor, index: int, pairs: Sequence[tuple[int, int]], mode: str, layout: Layout
) -> None:
    target = emit.make(output, layout)
    wanted = [axis for axis, pair in enumerate(pairs) if pair != (0, 0)]
    for axis in wanted:
        size = emit.shape(index)[axis]
        before, after = pairs[axis]
        # Negative amounts cut off: the places run over the axis and as far beyond as is asked.
        run = np.pad(np.arange(size), (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
        places = run[max(-before, 0) : len(run) - max(-after, 0)]
        index = take(emit, index, places.tolist(), axis, f"{output.name}_part", target if axis == wanted[-1] else None)


def _gather(emit: Emitter, op: Op) -> None:
    x, indices, output = op.need(0), op.need(1), op.outputs[0]
    axis = axis_of(op, x.rank, 0)
    if indices.data is not None:
        data = np.where(indices.data < 0, indices.data + x.shape[axis], indices.data)
        indices = Tensor(indices.name, indices.shape, "int32", data)
        if (
            indices.rank < 2
            and not x.is_constant
            and np.array_equal(data.reshape(-1), data.reshape(-1)[:1] + np.arange(data.size))
        ):
            _run_of(emit, op, axis, int(data.reshape(-1)[0]), data.size)
            return
    # With a vector of indices the axes stay what they are; otherwise the result has others.
    layout = emit.layout(x) if indices.rank == 1 else identity(x.rank)
    source = emit.read(x, layout)
    if x.is_constant and x.quant is not None and output.quant is None:
        source = dequantized(emit, source)
    target = emit.make(output, layout if indices.rank == 1 else None)
    place = layout.index(axis)
    emit.call("GATHER", [source, emit.read(indices)], [target], "GatherOptions", axis=place, batchDims=0)


def _run_of(emit: Emitter, op: Op, axis: int, first: int, count: int) -> None:
    """Gather of places one after another is a Slice, which XNNPACK takes."""
    x, output = op.need(0), op.outputs[0]
    layout = emit.layout(x) if op.need(1).rank else identity(x.rank)
    source = emit.read(x, layout)
    place = layout.index(axis)
    begin = emit.integers([first if a == place else 0 for a in range(x.rank)], "begin")
    shape = [count if a == place else size for a, size in enumerate(emit.shape(source))]
    if op.need(1).rank:
        target = emit.make(output, layout)
        emit.call("SLICE", [source, begin, emit.integers(shape, "size")], [target], "SliceOptions")
        return
    cut = emit.temporary(f"{output.name}_cut", shape, x)
    emit.call("SLICE", [source, begin, emit.integers(shape, "size")], [cut], "SliceOptions")
    emit.reshape(cut, output.shape, emit.make(output))


def _gather_nd(emit: Emitter, op: Op) -> None:
    if op.get("batch_dims", 0):
        raise refuse(op, f"it has batch_dims={op.get('batch_dims', 0)}", "GATHER_ND of LiteRT has none")
    inputs = [emit.read(op.need(0)), emit.read(op.need(1))]
    emit.call("GATHER_ND", inputs, [emit.make(op.outputs[0])], "GatherNdOptions")


def _one_hot(emit: Emitter, op: Op) -> None:
    indices, output = op.need(0), op.outputs[0]
    values = constant_input(op, 2, "values")
    if values is None:
        raise refuse(op, "it has no values", "give off and on as a constant")
    axis = axis_of(op, output.rank, -1)
    depth = emit.constant(np.array(integer_of(op, 1, "depth")), "int32", hint="depth")
    on, off = (emit.constant(np.array(values[k]), output.dtype, hint="level") for k in (1, 0))
    source = emit.read(indices)
    if indices.dtype != "int32":
        cast = emit.temporary("indices", indices.shape, indices, dtype="int32")
        emit.call("CAST", [source], [cast], "CastOptions", inDataType=indices.dtype, outDataType="int32")
        source = cast
    below = emit.temporary("below", indices.shape, indices, dtype="bool")
    wrapped = emit.temporary("wrapped", indices.shape, indices, dtype="int32")
    emit.call("LESS", [source, emit.constant(np.array(0), "int32", hint="zero")], [below], "LessOptions")
    emit.call("SELECT_V2", [below, emit.binary("ADD", source, depth, "wrapped"), source], [wrapped], "SelectV2Options")
    inputs = [wrapped, depth, on, off]
    place = -1 if axis == output.rank - 1 else axis
    emit.call("ONE_HOT", inputs, [emit.make(output)], "OneHotOptions", axis=place)


ROWS: dict[str, Row] = {
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "OneHot": _one_hot,
}
