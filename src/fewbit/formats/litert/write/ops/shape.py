"""Operators that change the shape or order of numbers."""

from __future__ import annotations

import numpy as np

from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.layout import after_transpose, channels_last, identity, permuted, reshaped
from fewbit.formats.litert.write.ops.common import axis_of, common_layout, constant_input
from fewbit.formats.litert.write.ops.row import Row

_COPIES = 4
"""Up to here a repetition along one axis is a Concat: XNNPACK takes it, and no BROADCAST_TO."""


def _reshape(emit: Emitter, op: Op) -> None:
    """As the numbers lie in the file, where that is a Reshape too; before a product by a constant matrix its rows are put
    in the order in which they lie."""
    x, output = op.need(0), op.outputs[0]
    if x.is_constant:
        emit.reshape(emit.read(x), output.shape, emit.make(output))
        return
    have = emit.layout(x)
    layout = reshaped(x.shape, output.shape, have)
    if layout is not None:
        if permuted(x.shape, have) == permuted(output.shape, layout):
            emit.alias(output, emit.read(x, have), layout)
        else:
            source = emit.read(x, have)
            emit.reshape(source, permuted(output.shape, layout), emit.make(output, layout))
        return
    order = _row_order(emit, x, output)
    if order is not None:
        emit.scrambled[output] = order
        emit.reshape(emit.read(x, have), output.shape, emit.make(output))
        return
    emit.reshape(emit.read(x), output.shape, emit.make(output))


def _row_order(emit: Emitter, x: Tensor, output: Tensor) -> np.ndarray | None:
    """Where each number of a flattened row comes from, if only products by constant matrices read the rows."""
    have = emit.layout(x)
    if output.rank != 2 or output in emit.graph.outputs or have[0] != 0 or x.shape[0] != output.shape[0]:
        return None
    readers = emit.readers.get(output, [])
    for reader in readers:
        weight = reader.input(1)
        constant = weight is not None and weight.is_constant and weight is not output
        plain = reader.kind == "Gemm" and not reader.get("transA", 0)
        if not constant or not (plain or reader.is_linear) or reader.inputs[0] is not output:
            return None
        if weight is not None and weight.quant is not None and weight.quant.block:
            return None
    if not readers:
        return None
    row: tuple[int, ...] = x.shape[1:]
    places = np.arange(int(np.prod(row))).reshape((1, *row))
    return places.transpose(have).reshape(-1)


def _transpose(emit: Emitter, op: Op) -> None:
    """The same tensor, read in another order of axes."""
    x, output = op.need(0), op.outputs[0]
    perm = list(op.get("perm", tuple(reversed(range(x.rank)))))
    have = emit.layout(x)
    emit.alias(output, emit.read(x, have), after_transpose(have, perm))


def _expand(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    layout = emit.layout(x) if x.rank == output.rank else identity(output.rank)
    source = emit.expanded(x, layout)
    wanted = permuted(output.shape, layout)
    grown = [axis for axis, size in enumerate(wanted) if x.rank == output.rank and emit.shape(source)[axis] != size]
    if len(grown) == 1 and wanted[grown[0]] <= _COPIES:
        copies = [source] * wanted[grown[0]]
        fields = {"axis": grown[0], "fusedActivationFunction": "NONE"}
        emit.call("CONCATENATION", copies, [emit.make(output, layout)], "ConcatenationOptions", **fields)
        return
    sizes = emit.integers(permuted(output.shape, layout), "shape")
    emit.call("BROADCAST_TO", [source, sizes], [emit.make(output, layout)], "BroadcastToOptions")


def _tile(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    repeats = constant_input(op, 1, "repeats")
    layout = emit.layout(x)
    counts = [] if repeats is None else [int(repeats[axis]) for axis in layout]
    inputs = [emit.read(x, layout), emit.integers(counts, "repeats")]
    emit.call("TILE", inputs, [emit.make(op.outputs[0], layout)], "TileOptions")


def _concat(emit: Emitter, op: Op) -> None:
    output = op.outputs[0]
    layout = common_layout(emit, op.inputs, output.rank)
    axis = layout.index(axis_of(op, output.rank, 0))
    operands = [emit.read(t, layout) for t in op.inputs if t is not None and 0 not in t.shape]
    target = emit.make(output, layout)
    emit.call("CONCATENATION", operands, [target], "ConcatenationOptions", axis=axis, fusedActivationFunction="NONE")


def _split(emit: Emitter, op: Op) -> None:
    x = op.need(0)
    layout = emit.layout(x)
    axis = layout.index(axis_of(op, x.rank, 0))
    source = emit.read(x, layout)
    targets = [emit.make(output, layout) for output in op.outputs]
    sizes = [emit.shape(target)[axis] for target in targets]
    if len(set(sizes)) == 1:
        place = emit.constant(np.array(axis), "int32", hint="axis")
        emit.call("SPLIT", [place, source], targets, "SplitOptions", numSplits=len(targets))
        return
    first = 0  # unequal parts are Slices: XNNPACK takes them, and no SPLIT_V
    for target, size in zip(targets, sizes, strict=True):
        begin = emit.integers([first if a == axis else 0 for a in range(x.rank)], "begin")
        emit.call("SLICE", [source, begin, emit.integers(emit.shape(target), "size")], [target], "SliceOptions")
        first += size


def _depth_to_space(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    block = int(op.get("blocksize", 1))
    if op.get("mode", "DCR") == "DCR":
        source = emit.read(x, channels_last(4))
        target = emit.make(output, channels_last(4))
        emit.call("DEPTH_TO_SPACE", [source], [target], "DepthToSpaceOptions", blockSize=block)
        return
    n, c, h, w = x.shape
    source = emit.reshape(emit.read(x, channels_last(4)), (n, h, w, c // block**2, block, block))
    order = emit.integers((0, 1, 4, 2, 5, 3), "perm")
    turned = emit.temporary(f"{output.name}_turned", (n, h, block, w, block, c // block**2), x)
    emit.call("TRANSPOSE", [source, order], [turned], "TransposeOptions")
    target = emit.make(output, channels_last(4))
    emit.reshape(turned, emit.shape(target), target)


def _space_to_depth(emit: Emitter, op: Op) -> None:
    if op.get("mode", "DCR") != "DCR":
        raise refuse(op, f"it has mode {op.get('mode', 'DCR')}", "SPACE_TO_DEPTH of LiteRT is mode DCR")
    source = emit.read(op.need(0), channels_last(4))
    target = emit.make(op.outputs[0], channels_last(4))
    emit.call("SPACE_TO_DEPTH", [source], [target], "SpaceToDepthOptions", blockSize=int(op.get("blocksize", 1)))


ROWS: dict[str, Row] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
