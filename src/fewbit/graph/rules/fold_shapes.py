"""Shape, Size, and a Gather or Slice of a Shape, become constants where the sizes asked for are known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.edit import add_constant, bypass, integer, is_op
from fewbit.graph.hub import Hub, constant_array, shape_of
from fewbit.graph.info import RuleOutcome

NAME = "fold_shapes"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        array = _known(node)
        if array is None:
            continue
        if node.outputs[0].is_graph_output():
            outcomes.append(
                RuleOutcome(NAME, str(node.name), False, f"it makes the graph output {node.outputs[0].name!r}")
            )
            continue
        outcomes.append(RuleOutcome(NAME, str(node.name), True, f"is {array.tolist()} for every input"))
        stem = str(node.outputs[0].name)
        node.outputs[0].name = None
        hub.release_name(stem)
        bypass(node, add_constant(hub, array, stem))
    return outcomes


def _known(node: ir.Node) -> NDArray[np.int64] | None:
    """The output, if it follows from what is known of shapes."""
    if is_op(node, "Size"):
        shape = shape_of(node.inputs[0])
        if shape is None or not all(isinstance(size, int) for size in shape):
            return None
        return np.array(int(np.prod(shape, dtype=np.int64)), np.int64)  # type: ignore[arg-type]
    if is_op(node, "Shape"):
        return _numbers(_sizes(node))
    source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    sizes = _sizes(source) if source is not None and is_op(source, "Shape") else None
    if sizes is None:
        return None
    if is_op(node, "Gather"):
        index = constant_array(node.inputs[1])
        if index is None:
            return None
        places = [int(i) for i in index.reshape(-1)]
        if any(not -len(sizes) <= place < len(sizes) for place in places):
            return None
        chosen = _numbers([sizes[place] for place in places])
        return None if chosen is None else chosen.reshape(index.shape)
    if is_op(node, "Slice") and len(node.inputs) >= 3:
        parts = [constant_array(v) for v in node.inputs[1:3]]
        step = constant_array(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.array([1])
        if any(p is None or p.size != 1 for p in (*parts, step)):
            return None
        start, end, stride = (int(p.reshape(-1)[0]) for p in (*parts, step))  # type: ignore[union-attr]
        if stride <= 0:
            return None
        return _numbers(sizes[max(start, -len(sizes)) : min(end, len(sizes)) : stride])
    return None


def _sizes(node: ir.Node) -> list[int | str | None] | None:
    """What a Shape node gives, with its start and end."""
    shape = shape_of(node.inputs[0])
    if shape is None:
        return None
    end = integer(node, "end", len(shape))
    return list(shape)[integer(node, "start", 0) : end]


def _numbers(sizes: list[int | str | None] | None) -> NDArray[np.int64] | None:
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        return None
    return np.array(sizes, np.int64)
