"""SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND are one convolution with gaps: converters cut it up like that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True, slots=True)
class Dilation:
    """What the three operators amount to: gaps and padding of both axes, top, left, bottom, right."""

    gaps: tuple[int, int]
    pads: tuple[int, int, int, int]


def dilated(b: Builder) -> tuple[list[Operator], Mapping[int, Dilation]]:
    """The operators with each such group as its convolution; and by its number what it became."""
    operators = b.subgraph.operators
    readers = Counter(index for op in operators for index in op.inputs)
    readers.update(b.subgraph.outputs)
    by_input = {op.inputs[0]: op for op in operators if op.inputs}
    found: dict[int, Dilation] = {}
    merged: dict[int, Operator] = {}
    gone: set[int] = set()
    for first in operators:
        if first.name != "SPACE_TO_BATCH_ND" or len(first.inputs) < 3 or len(first.outputs) != 1:
            continue
        middle = by_input.get(first.outputs[0])
        last = None if middle is None or len(middle.outputs) != 1 else by_input.get(middle.outputs[0])
        if middle is None or last is None or middle.name not in _CONVOLUTIONS or last.name != "BATCH_TO_SPACE_ND":
            continue
        alone = all(readers[op.outputs[0]] == 1 for op in (first, middle))
        dilation = _dilation(b, first, middle, last) if alone else None
        if dilation is not None:
            found[middle.index] = dilation
            merged[middle.index] = replace(middle, inputs=(first.inputs[0], *middle.inputs[1:]), outputs=last.outputs)
            gone.update((first.index, last.index))
    return [merged.get(op.index, op) for op in operators if op.index not in gone], found


def _dilation(b: Builder, first: Operator, middle: Operator, last: Operator) -> Dilation | None:
    """None where it is not the same convolution: other steps, blocks or scales, or edges that are not constant."""
    if len(last.inputs) < 3 or not last.outputs:
        return None
    arrays = [b.array(op.inputs[i]) for op in (first, last) for i in (1, 2)]
    if any(array is None for array in arrays):
        return None
    block, pads, other, crops = ([int(n) for n in array.reshape(-1)] for array in arrays if array is not None)
    if block != other or len(block) != 2 or len(pads) != 4 or len(crops) != 4 or min(block) < 1:
        return None
    for one, two in ((first.inputs[0], first.outputs[0]), (last.inputs[0], last.outputs[0])):
        quantization, other_one = b.quantization(one), b.quantization(two)
        if (quantization is None) != (other_one is None) or (quantization and not quantization.same(other_one)):
            return None
    options = b.file.options(middle, "Conv2DOptions" if middle.name == "CONV_2D" else "DepthwiseConv2DOptions")
    if (options.strideH, options.strideW) != (1, 1) or (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        return None
    own = [(0, 0), (0, 0)]
    if options.padding == 0:
        windows = (b.sizes(middle.inputs[1]) or ())[1:3]
        if len(windows) != 2 or None in windows:
            return None
        own = [(((w or 1) - 1) // 2, (w or 1) - 1 - ((w or 1) - 1) // 2) for w in windows]
    edges = [(pads[2 * i + side] + block[i] * own[i][side] - crops[2 * i + side]) for side in (0, 1) for i in (0, 1)]
    return Dilation((block[0], block[1]), (edges[0], edges[1], edges[2], edges[3])) if min(edges) >= 0 else None
