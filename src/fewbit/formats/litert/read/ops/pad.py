"""Padding, and the moving of blocks between axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout, order
from fewbit.formats.litert.read.ops.row import Handler, Row, as_sizes, layout_of
from fewbit.formats.litert.read.ops.select import backwards

_MOST = 1 << 24
_SYMMETRIC = 1


def _pad(b: Builder, op: Operator, options: Any) -> None:
    _padded(b, op, None)


def _pad_v2(b: Builder, op: Operator, options: Any) -> None:
    _padded(b, op, b.real(op.inputs[2]))


def _padded(b: Builder, op: Operator, fill: ir.Value | None) -> None:
    if fill is not None and b.rank(op.inputs[2]):
        fill = b.emit("Squeeze", [fill])
    if b.array(op.inputs[1]) is None:
        pads = b.emit("Reshape", [b.emit("Transpose", [as_sizes(b, op.inputs[1])], perm=[1, 0]), [-1]])
        b.put(op.outputs[0], b.emit("Pad", [b.real(op.inputs[0]), pads, fill]))
        return
    layout = layout_of(b, op.inputs[0])
    begins, ends = _pads(b, op, layout)
    b.put(op.outputs[0], b.emit("Pad", [b.real(op.inputs[0], layout), [*begins, *ends], fill]), layout)


def _mirror_pad(b: Builder, op: Operator, options: Any) -> None:
    """REFLECT leaves the edge out, as ONNX does; SYMMETRIC repeats it, which ONNX has not: slices turned around do."""
    layout = layout_of(b, op.inputs[0])
    begins, ends = _pads(b, op, layout)
    value = b.real(op.inputs[0], layout)
    if options.mode != _SYMMETRIC:
        b.put(op.outputs[0], b.emit("Pad", [value, [*begins, *ends]], mode="reflect"), layout)
        return
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin or end:
            parts = [value]
            if begin:
                parts.insert(0, backwards(b, b.emit("Slice", [value, [0], [begin], [axis]]), [axis]))
            if end:
                parts.append(backwards(b, b.emit("Slice", [value, [-end], [np.iinfo(np.int64).max], [axis]]), [axis]))
            value = b.emit("Concat", parts, axis=axis)
    b.put(op.outputs[0], value, layout)


def _pads(b: Builder, op: Operator, layout: Layout) -> tuple[list[int], list[int]]:
    """What a constant says is added before and after each axis of the value."""
    rank, pads = b.known_rank(op, op.inputs[0]), b.integers(op, 1)
    if len(pads) != 2 * rank or not all(0 <= pad <= _MOST for pad in pads):
        raise b.refuse(op, f"has the pads {pads} for {rank} axes: two for each, from 0 to {_MOST}")
    axes = order(layout, rank)
    return [pads[2 * axis] for axis in axes], [pads[2 * axis + 1] for axis in axes]


def _blocks(op_type: str, **attributes: Any) -> Handler:
    def handler(b: Builder, op: Operator, options: Any) -> None:
        if b.rank(op.inputs[0]) != 4 or not 0 < options.blockSize <= _MOST:
            raise b.refuse(op, f"has blocks of {options.blockSize} in {b.rank(op.inputs[0])} axes: there have to be 4")
        value = b.emit(op_type, [b.real(op.inputs[0], Layout.FIRST)], blocksize=int(options.blockSize), **attributes)
        b.put(op.outputs[0], value, Layout.FIRST)

    return handler


def _space_to_batch(b: Builder, op: Operator, options: Any) -> None:
    """[N, H, W, C] padded → [b0·b1·N, H/b0, W/b1, C]: the place in a block is the slowest axis of the batch."""
    sizes, block, pads = _block_sizes(b, op)
    padded = [size + pads[2 * i] + pads[2 * i + 1] for i, size in enumerate(sizes[1 : 1 + len(block)])]
    rest = sizes[1 + len(block) :]
    if any(size % step for size, step in zip(padded, block, strict=True)):
        raise b.refuse(op, f"cuts {padded} into blocks of {block}, which do not divide it")
    value = b.real(op.inputs[0])
    if any(pads):
        before = [0, *pads[0::2], *[0] * len(rest)]
        after = [0, *pads[1::2], *[0] * len(rest)]
        value = b.emit("Pad", [value, [*before, *after]])
    count = len(block)
    inner = [part for size, step in zip(padded, block, strict=True) for part in (size // step, step)]
    value = b.emit("Reshape", [value, [-1, *inner, *rest]])
    blocks, spaces = [2 + 2 * i for i in range(count)], [1 + 2 * i for i in range(count)]
    value = b.emit("Transpose", [value], perm=[*blocks, 0, *spaces, *range(2 * count + 1, 2 * count + 1 + len(rest))])
    shrunk = [size // step for size, step in zip(padded, block, strict=True)]
    b.put(op.outputs[0], b.emit("Reshape", [value, [-1, *shrunk, *rest]]))


def _batch_to_space(b: Builder, op: Operator, options: Any) -> None:
    """The way back, with crops instead of pads."""
    sizes, block, crops = _block_sizes(b, op)
    count = len(block)
    spaces, rest = sizes[1 : 1 + count], sizes[1 + count :]
    value = b.emit("Reshape", [b.real(op.inputs[0]), [*block, -1, *spaces, *rest]])
    pairs = [axis for i in range(count) for axis in (count + 1 + i, i)]
    value = b.emit("Transpose", [value], perm=[count, *pairs, *range(2 * count + 1, 2 * count + 1 + len(rest))])
    grown = [size * step for size, step in zip(spaces, block, strict=True)]
    value = b.emit("Reshape", [value, [-1, *grown, *rest]])
    if any(crops):
        starts = list(crops[0::2])
        ends = [size - crop for size, crop in zip(grown, crops[1::2], strict=True)]
        value = b.emit("Slice", [value, starts, ends, list(range(1, 1 + count))])
    b.put(op.outputs[0], value)


def _block_sizes(b: Builder, op: Operator) -> tuple[list[int], list[int], list[int]]:
    """Sizes of the input (the first may be unknown: it is not used), of blocks, and what is added or cropped."""
    block, edges = b.integers(op, 1), b.integers(op, 2)
    sizes = b.sizes(op.inputs[0]) or ()
    if len(edges) != 2 * len(block) or not 0 < len(block) < len(sizes) or None in sizes[1:]:
        raise b.refuse(op, f"moves blocks of {block} with edges {edges} of shape {sizes}")
    if not all(0 < step <= _MOST for step in block) or not all(0 <= edge <= _MOST for edge in edges):
        raise b.refuse(op, f"moves blocks of {block} with edges {edges}")
    return [size or 0 for size in sizes], block, edges


ROWS: dict[str, Row] = {
    "PAD": Row(_pad, None, 2),
    "PADV2": Row(_pad_v2, None, 3),
    "MIRROR_PAD": Row(_mirror_pad, "MirrorPadOptions", 2),
    "SPACE_TO_DEPTH": Row(_blocks("SpaceToDepth"), "SpaceToDepthOptions"),
    "DEPTH_TO_SPACE": Row(_blocks("DepthToSpace", mode="DCR"), "DepthToSpaceOptions"),
    "SPACE_TO_BATCH_ND": Row(_space_to_batch, None, 3),
    "BATCH_TO_SPACE_ND": Row(_batch_to_space, None, 3),
}
