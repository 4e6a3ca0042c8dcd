"""The few edits that rules make to a graph. Each keeps the names of graph inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.hub import ONNX_DOMAINS, Hub


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return node is not None and node.op_type in op_types and node.domain in ONNX_DOMAINS


def add_constant(hub: Hub, array: NDArray[np.generic], name: str) -> ir.Value:
    """A new initializer of the main graph, named `name` or with a number after it."""
    name = hub.fresh_name(name)
    tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    hub.graph.register_initializer(value)
    return value


def set_constant(hub: Hub, node: ir.Node, index: int, array: NDArray[np.generic], name: str) -> ir.Value:
    """Give the constant at this input of a node new numbers, for this node alone.

    A constant that others read too stays as it is, and the node gets one of its own. A missing input is added under
    `name`.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None and value.is_initializer() and value.graph is hub.graph and _read_once(value):
        tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=value.name)
        value.const_value = tensor
        value.shape = tensor.shape
        value.type = ir.TensorType(tensor.dtype)
        return value
    fresh = add_constant(hub, array, str(value.name) if value is not None else name)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, fresh)
    return fresh


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) <= 1 and not value.is_graph_output() and not value.is_graph_input()


def can_bypass(node: ir.Node, source: ir.Value) -> str | None:
    """Why the readers of a node's first output cannot read `source` instead, or None if they can."""
    output = node.outputs[0]
    if any(extra.uses() or extra.is_graph_output() for extra in node.outputs[1:]):
        return "its other outputs are used"
    if not output.is_graph_output():
        return None
    producer = source.producer()
    if producer is None or producer.graph is not node.graph:
        return f"it makes the graph output {output.name!r} straight from {source.name!r}"
    if source.is_graph_output():
        return f"both {source.name!r} and {output.name!r} are graph outputs"
    return None


def bypass(node: ir.Node, source: ir.Value) -> None:
    """Let the readers of a node's first output read `source`, and remove the node. Ask `can_bypass` first."""
    output = node.outputs[0]
    graph = node.graph
    if graph is None:
        return
    name, is_output = output.name, output.is_graph_output()
    _merge_shape(source, output)
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    detach(graph, [node])
    if is_output:
        output.name = None
        source.name = name


def absorb_output(node: ir.Node, follower: ir.Node) -> None:
    """Let `node` make what `follower`, the only reader of its first output, made; remove the follower.

    The value keeps the follower's output name, so that a name stands for the same numbers as before.
    """
    value, output = node.outputs[0], follower.outputs[0]
    graph = follower.graph
    if graph is None:
        return
    name = output.name
    if output.shape is not None:
        value.shape = ir.Shape(output.shape)
    if output.type is not None:
        value.type = output.type
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    detach(graph, [follower])
    output.name = None
    value.name = name


def detach(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    """Remove nodes from their graph and from the readers of their inputs."""
    for node in nodes:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    graph.remove(nodes)


def replace_node(
    hub: Hub,
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    **attributes: int | float | str | list[int],
) -> ir.Node:
    """Put another operator with one output in a node's place; node and output keep their names."""
    graph = node.graph or hub.graph
    old = node.outputs[0]
    new = ir.Node(
        "",
        op_type,
        inputs,
        ir.convenience.convert_attributes(attributes),
        name=node.name,
        num_outputs=1,
        graph=None,  # type: ignore[arg-type]
    )
    output = new.outputs[0]
    output.type, output.shape = old.type, None if old.shape is None else ir.Shape(old.shape)
    name = old.name
    graph.insert_before(node, new)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    detach(graph, [node])
    old.name = None
    output.name = name
    return new


def _merge_shape(kept: ir.Value, other: ir.Value) -> None:
    if kept.shape is None and other.shape is not None:
        kept.shape = ir.Shape(other.shape)
    if kept.type is None:
        kept.type = other.type


def integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def real(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def integers(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return list(default if attribute is None else attribute.as_ints())
