"""What the tables of operators are made of, and what several families need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert import schema
from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout, change, order, same_order, without

Handler = Callable[[Builder, Operator, Any], None]
"""Makes the nodes of an operator; the last argument is its options, the schema's object of the name in `Row.options`."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one builtin operator comes in.

    options: name of its options in the schema, None for an operator whose options do not matter. inputs, outputs: the least
    that it has. needed: how many of the first inputs cannot be left out; None: all of them.
    """

    handler: Handler
    options: str | None = None
    inputs: int = 1
    outputs: int = 1
    needed: int | None = None


def activated(b: Builder, op: Operator, value: ir.Value, code: int) -> ir.Value:
    """The activation that is fused into an operator."""
    match schema.ACTIVATIONS.get(code):
        case "NONE":
            return value
        case "RELU":
            return b.emit("Relu", [value])
        case "RELU6":
            return clip(b, value, 0.0, 6.0)
        case "RELU_N1_TO_1":
            return clip(b, value, -1.0, 1.0)
        case "TANH":
            return b.emit("Tanh", [value])
    raise b.refuse(op, f"has the fused activation {schema.ACTIVATIONS.get(code, code)}, which has no counterpart")


def clip(b: Builder, value: ir.Value, low: float, high: float) -> ir.Value:
    return b.emit("Clip", [value, np.float32(low), np.float32(high)])


def layout_of(b: Builder, *indices: int) -> Layout:
    """The layout in which an operator runs that can in any: that of its operands, channels first if one is so alone."""
    return Layout.FIRST if any(b.prefers_first(index) for index in indices) else Layout.FILE


def aligned(b: Builder, indices: Sequence[int]) -> tuple[Layout, list[ir.Value]]:
    """Operands that broadcast, all in one layout: constants of lower rank get the axes that they lack."""
    ranks = [b.rank(index) for index in indices]
    rank = max((r for r in ranks if r is not None), default=0)
    fits = all(r == rank or b.is_constant(i) or b.tensor(i).count == 1 for i, r in zip(indices, ranks, strict=True))
    layout = layout_of(b, *indices) if fits and None not in ranks else Layout.FILE
    values = []
    for index, own in zip(indices, ranks, strict=True):
        if layout is Layout.FIRST and own != rank and b.is_constant(index) and b.tensor(index).count != 1:
            sizes = [1] * (rank - (own or 0)) + [size or 0 for size in b.sizes(index) or ()]
            held = [sizes[axis] for axis in order(layout, rank)]
            perm = _moved(own or 0)
            values.append(b.weight(index, perm, held))
        else:
            values.append(b.real(index, layout if own == rank else Layout.FILE))
    return layout, values


def _moved(rank: int) -> list[int]:
    """The order of the axes of a constant of lower rank when it gets those of channels first: the last one comes first."""
    return [rank - 1, *range(rank - 1)] if rank else []


def in_file_order(b: Builder, index: int) -> ir.Value:
    """A value whose numbers lie as in the file, whatever its shape: for what gives it another one."""
    sizes = b.sizes(index)
    first = b.prefers_first(index) and sizes is not None and same_order(Layout.FIRST, sizes)
    return b.real(index, Layout.FIRST if first else Layout.FILE)


def dropping(b: Builder, index: int, axes: Collection[int]) -> tuple[Layout, Layout]:
    """In which layout to read a tensor some of whose axes go away, and that of what is left."""
    before = layout_of(b, index)
    after = without(before, b.rank(index) or 0, axes)
    return (Layout.FILE, Layout.FILE) if after is None else (before, after)


def sizes_of(b: Builder, index: int) -> ir.Value:
    """The sizes of a tensor in the file's order, as a vector of int64."""
    layout, rank = layout_of(b, index), b.rank(index)
    shape = b.emit("Shape", [b.stored(index, layout)])
    if layout is Layout.FILE or rank is None:
        return shape
    return b.emit("Gather", [shape, change(layout, Layout.FILE, rank)], axis=0)


def cast(b: Builder, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    return b.emit("Cast", [value], to=int(dtype))


def as_sizes(b: Builder, index: int) -> ir.Value:
    """A tensor of sizes or positions as int64, which ONNX wants: LiteRT's are int32."""
    array, tensor = b.array(index), b.tensor(index)
    if tensor.dtype is None or not tensor.dtype.is_integer():
        raise b.file.flat.damaged(f"tensor {tensor.name!r} is read as sizes or places and is no integers")
    if array is not None:
        return b.constant(array.astype(np.int64), "sizes")
    return cast(b, b.stored(index), ir.DataType.INT64)


def is_float(b: Builder, index: int) -> bool:
    """Whether a tensor counts as real numbers: floats, or integers with a scale."""
    dtype = b.tensor(index).dtype
    return b.quantization(index) is not None or (dtype is not None and dtype.is_floating_point())
