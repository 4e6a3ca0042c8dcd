"""Inputs of fixed sizes, for formats whose files have no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from fewbit.errors import DataError
from fewbit.graph.hub import Hub, shape_of


def fix_inputs(hub: Hub, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give the inputs fixed sizes: those that are given, else 1 for a first axis that is open.

    Args:
        shapes: input name → sizes.

    Raises:
        DataError: sizes that are missing, contradict the model, or are for an input that it does not have.
    """
    infos = {info.name: info for info in hub.inputs}
    unknown = sorted(set(shapes) - set(infos))
    if unknown:
        raise DataError(f"the model has no input {unknown[0]!r} to give a shape to; it has {sorted(infos)}")
    symbols: dict[str, int] = {}
    for name, sizes in shapes.items():
        declared = infos[name].shape
        if declared is None or len(declared) != len(sizes):
            raise DataError(f"input {name!r} has the shape {declared}; {tuple(sizes)} has another number of axes")
        for size, given in zip(declared, sizes, strict=True):
            if isinstance(size, int) and size != given:
                raise DataError(f"input {name!r} has the shape {declared}, which {tuple(sizes)} contradicts")
            if isinstance(size, str) and symbols.setdefault(size, int(given)) != given:
                raise DataError(f"size {size!r} is {symbols[size]} in one input and {given} in {name!r}; give one size")
    for value in hub.graph.inputs:
        if value.const_value is None:
            value.shape = ir.Shape(_fixed(str(value.name), shape_of(value), shapes, symbols))


def _fixed(
    name: str,
    declared: tuple[int | str | None, ...] | None,
    shapes: Mapping[str, Sequence[int]],
    symbols: Mapping[str, int],
) -> list[int]:
    if name in shapes:
        return [int(size) for size in shapes[name]]
    if declared is None:
        raise DataError(f"input {name!r} has no shape; give one: shapes={{{name!r}: (1, ...)}}")
    fixed = []
    for axis, size in enumerate(declared):
        known = size if isinstance(size, int) else symbols.get(size) if size is not None else None
        if known is None and axis > 0:
            raise DataError(f"input {name!r} has the open shape {declared}; give sizes: shapes={{{name!r}: (1, ...)}}")
        fixed.append(1 if known is None else known)
    return fixed
