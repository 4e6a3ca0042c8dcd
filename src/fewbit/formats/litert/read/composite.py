"""STABLEHLO_COMPOSITE names a function and a subgraph that computes it in other operators: those take its place."""

from __future__ import annotations

from dataclasses import replace

from fewbit.errors import ModelError
from fewbit.formats.litert.read.file import LiteRTFile, Operator, Quantization, Subgraph, Tensor

_DEEPEST = 16
_MOST = 1 << 15
_MOST_TENSORS = 1 << 18
"""Operators and tensors in all: composites of composites could ask for any number."""


def inlined(file: LiteRTFile, subgraph: Subgraph) -> Subgraph:
    """The subgraph with the operators of decompositions in the place of composites.

    Raises:
        ModelError: a decomposition has other inputs or outputs than its operator, or is part of itself.
    """
    for _ in range(_DEEPEST):
        if not any(op.composite is not None for op in subgraph.operators):
            return subgraph
        subgraph = _once(file, subgraph)
    raise ModelError(
        f"{file.label} has composites in composites, {_DEEPEST} deep: it is damaged, or a composite is part of itself"
    )


def _once(file: LiteRTFile, subgraph: Subgraph) -> Subgraph:
    tensors, operators = list(subgraph.tensors), []
    number = max(op.index for op in subgraph.operators) + 1
    for op in subgraph.operators:
        if op.composite is None:
            operators.append(op)
            continue
        inner = file.subgraph(op.composite)
        if len(inner.inputs) != len(op.inputs) or len(inner.outputs) != len(op.outputs) or -1 in op.inputs:
            raise file.flat.damaged(
                f"operator {op.index} (STABLEHLO_COMPOSITE) has {len(op.inputs)} inputs and {len(op.outputs)} outputs, and "
                f"its subgraph {len(inner.inputs)} and {len(inner.outputs)}"
            )
        if len(operators) + len(inner.operators) > _MOST or len(tensors) + len(inner.tensors) > _MOST_TENSORS:
            raise ModelError(
                f"{file.label} has more than {_MOST} operators or {_MOST_TENSORS} tensors, with those of composites"
            )
        places = _places(op, inner, len(tensors))
        added = [t for t in inner.tensors if places[t.index] >= len(tensors)]
        tensors += [_moved(t, places) for t in added]
        for step in inner.operators:
            operators.append(
                replace(
                    step,
                    index=number,
                    inputs=tuple(-1 if i < 0 else places[i] for i in step.inputs),
                    outputs=tuple(places[i] for i in step.outputs),
                )
            )
            number += 1
        for outer, index in zip(op.outputs, inner.outputs, strict=True):
            if places[index] != outer:  # also an input, a constant or another output
                operators.append(Operator(number, "DEQUANTIZE", "", (places[index],), (outer,), "NONE", None, None))
                number += 1
    return replace(subgraph, tensors=tuple(tensors), operators=tuple(operators))


def _places(op: Operator, inner: Subgraph, free: int) -> list[int]:
    """For each tensor of the decomposition its number among those of the whole."""
    outer = dict(zip(reversed(inner.outputs), reversed(op.outputs), strict=True))
    made = {index for step in inner.operators for index in step.outputs}
    outer = {index: place for index, place in outer.items() if index in made}
    outer.update(zip(inner.inputs, op.inputs, strict=True))
    places = []
    for tensor in inner.tensors:
        if tensor.index not in outer:
            outer[tensor.index] = free
            free += 1
        places.append(outer[tensor.index])
    return places


def _moved(tensor: Tensor, places: list[int]) -> Tensor:
    return replace(tensor, index=places[tensor.index], quantization=_with_places(tensor.quantization, places))


def _with_places(quantization: Quantization | None, places: list[int]) -> Quantization | None:
    """Scales for blocks are in other tensors."""
    blocks = None if quantization is None else quantization.blocks
    if quantization is None or blocks is None or not 0 <= blocks.scales < len(places):
        return quantization
    zeros = blocks.zero_points
    moved = None if zeros is None or not 0 <= zeros < len(places) else places[zeros]
    return replace(quantization, blocks=replace(blocks, scales=places[blocks.scales], zero_points=moved))
