"""Which axes of the inputs may have any size, and under what names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from fewbit.errors import RecipeError
from fewbit.graph.hub import all_graphs

BATCH = "batch"

_LEAST = 2  # an axis that is exported with the size 1 is taken for one that is broadcast


@dataclass(frozen=True, slots=True)
class Shapes:
    """Arguments and what of them is dynamic.

    arguments: of forward, by name; axes that are dynamic have a size of at least 2.
    spec: torch.export's `dynamic_shapes` for them.
    names: for each leaf of the arguments, axis → name of its size.
    repeated: whether an argument was repeated along an axis of size 1.
    """

    arguments: dict[str, Any]
    spec: Any
    names: list[dict[int, str]]
    repeated: bool


def fixed(arguments: dict[str, Any]) -> Shapes:
    """No dynamic axis."""
    return _shapes(arguments, None)


def first_axes(arguments: dict[str, Any]) -> tuple[Shapes | None, str]:
    """The first axis of every tensor as the batch, where all have one size there; else None and why not."""
    import torch
    from torch.utils import _pytree as tree

    leaves = [leaf for leaf in tree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
    sizes = [leaf.shape[0] if leaf.dim() else None for leaf in leaves]
    if len(set(sizes)) > 1 or sizes[0] is None:
        shapes = ", ".join(str(list(leaf.shape)) for leaf in leaves)
        return None, f"the first axes of the inputs {shapes} are not one batch"
    auto = {0: torch.export.Dim.AUTO}
    spec = tree.tree_map(lambda leaf: auto if isinstance(leaf, torch.Tensor) else None, arguments)
    return _shapes(arguments, spec, default=BATCH), ""


def wanted(arguments: dict[str, Any], dynamic_shapes: Any) -> Shapes:
    """What the user asks for: torch.export's `dynamic_shapes`, in which a size can be a name too.

    Raises:
        RecipeError: an input or axis that does not exist, or a name that is none.
    """
    import torch

    dims: dict[str, Any] = {}

    def convert(spec: Any) -> Any:
        if isinstance(spec, str):
            if not spec.isidentifier():
                raise RecipeError(f"the name of a dynamic size must be an identifier, such as batch, not {spec!r}")
            return dims.setdefault(spec, torch.export.Dim(spec))
        if isinstance(spec, Mapping):
            return {key: convert(value) for key, value in spec.items()}
        return type(spec)(map(convert, spec)) if isinstance(spec, tuple | list) else spec

    if isinstance(dynamic_shapes, Mapping):
        for name, axes in dynamic_shapes.items():
            if name not in arguments:
                raise RecipeError(f"dynamic_shapes names the input {name!r}; the example has {', '.join(arguments)}")
            rank = arguments[name].dim() if isinstance(arguments[name], torch.Tensor) else None
            if rank is not None and isinstance(axes, Mapping) and any(axis >= rank for axis in axes):
                raise RecipeError(f"dynamic_shapes names axis {max(axes)} of {name!r}, which has axes 0 to {rank - 1}")
        dynamic_shapes = {name: dynamic_shapes.get(name) for name in arguments}
    return _shapes(arguments, convert(dynamic_shapes))


def _shapes(arguments: dict[str, Any], spec: Any, default: str = "") -> Shapes:
    import torch
    from torch.utils import _pytree as tree

    leaves, structure = tree.tree_flatten(arguments)
    by_name = spec if isinstance(spec, Mapping) else dict(zip(arguments, spec or (), strict=False))
    axes = [
        {axis: dim for axis, dim in found.items() if not isinstance(dim, int | None) and dim != torch.export.Dim.STATIC}
        for found in _axes(arguments, by_name)
    ]
    grown = [_grow(*pair) for pair in zip(leaves, axes, strict=True)]
    named = [{axis: getattr(dim, "__name__", default) for axis, dim in found.items()} for found in axes]
    repeated = any(a is not b for a, b in zip(grown, leaves, strict=True))
    return Shapes(tree.tree_unflatten(grown, structure), spec, named, repeated)


def _axes(value: Any, spec: Any) -> Iterator[Mapping[int, Any]]:
    """For each leaf of a value, what the spec says of its axes."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _axes(item, spec.get(key) if isinstance(spec, Mapping) else None)
    elif isinstance(value, tuple | list):
        specs = spec if isinstance(spec, tuple | list) else (None,) * len(value)
        for pair in zip(value, specs, strict=True):
            yield from _axes(*pair)
    elif isinstance(spec, Mapping):
        yield spec
    else:
        yield dict(enumerate(spec)) if isinstance(spec, tuple | list) else {}


def _grow(leaf: Any, axes: Mapping[int, Any]) -> Any:
    """A tensor repeated along its dynamic axes of size 1."""
    for axis in axes:
        if leaf.shape[axis] == 1:
            leaf = leaf.repeat_interleave(_LEAST, axis)
    return leaf


def name_axes(model: ir.Model, names: Mapping[str, Mapping[int, str]]) -> list[str]:
    """Give the symbolic sizes of inputs their names, wherever they occur; returns `input: axis n` of those that are fixed.

    names: input → axis → name.
    """
    renamed: dict[str, str] = {}
    fixed = []
    for value in model.graph.inputs:
        for axis, name in names.get(str(value.name), {}).items():
            size = value.shape[axis] if value.shape is not None else None
            if isinstance(size, ir.SymbolicDim) and not str(size.value).isdigit():
                renamed.setdefault(str(size.value), name or str(size.value))
            else:
                fixed.append(f"{value.name}: axis {axis}")
    for graph in all_graphs(model):
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.shape is not None and not value.shape.frozen:
                for axis, size in enumerate(value.shape):
                    if isinstance(size, ir.SymbolicDim) and size.value is not None:
                        value.shape[axis] = _renamed(size.value, renamed)
    return fixed


def _renamed(size: str, names: Mapping[str, str]) -> int | str:
    if size.isdigit():
        return int(size)
    return re.sub(r"[A-Za-z_]\w*", lambda found: names.get(found[0], found[0]), size)
