"""What rows of several families share: layouts of operands, axes, indices along an axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fewbit.errors import ModelError
from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Array, Op, Tensor
from fewbit.formats.litert.write.layout import Layout, identity


def common_layout(emit: Emitter, tensors: Sequence[Tensor | None], rank: int) -> Layout:
    """The layout that most of the operands of this rank have which are no constants; the first of them where they tie."""
    layouts = [emit.layout(t) for t in tensors if t is not None and not t.is_constant and t.rank == rank]
    return Counter(layouts).most_common(1)[0][0] if layouts else identity(rank)


def constant_input(op: Op, index: int, what: str) -> Array | None:
    """The numbers of an input that LiteRT wants fixed; None where it is left out."""
    tensor = op.input(index)
    if tensor is None:
        return None
    if tensor.data is None:
        raise refuse(op, f"its {what} {tensor.name!r} are computed", "LiteRT with fixed shapes needs a constant")
    return tensor.data


def axis_of(op: Op, rank: int, default: int, name: str = "axis") -> int:
    """An axis attribute, counted from the front."""
    return int(op.get(name, default)) % max(rank, 1)


def axes_of(op: Op, rank: int) -> list[int] | None:
    """The axes of a reduction or squeeze, as input or attribute; None where they are left out."""
    array = constant_input(op, 1, "axes")
    if array is None:
        given = op.attributes.get("axes")
        if given is None:
            return None
        array = np.asarray(given)
    return sorted(int(axis) % max(rank, 1) for axis in array.reshape(-1))


def take(emit: Emitter, source: int, indices: Sequence[int], axis: int, hint: str, target: int | None = None) -> int:
    """What lies at these places of an axis of the file's tensor."""
    shape = list(emit.shape(source))
    shape[axis] = len(indices)
    if target is None:
        target = emit.temporary(hint, shape, emit.tensors[source])
    emit.call("GATHER", [source, emit.integers(indices, "indices")], [target], "GatherOptions", axis=axis, batchDims=0)
    return target


def integer_of(op: Op, index: int, what: str) -> int:
    """A single number that an operator gets as an input."""
    array = constant_input(op, index, what)
    if array is None or array.size != 1:
        raise ModelError(f"{op.kind} {op.name!r} has no single {what}; export the model with a constant")
    return int(array.reshape(-1)[0])
