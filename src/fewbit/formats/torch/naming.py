"""Give the nodes and values of an exported graph the names of the modules that made them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from fewbit.graph.hub import all_graphs, unique_name

_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_WEIGHT = ".weight"
_NOWHERE = "_empty_nn_module_stack"  # the scope of nodes for which the exporter knows none


def name_by_modules(model: ir.Model, outputs: Sequence[str]) -> None:
    """Name nodes and what they compute after modules, and the outputs as given; the exporter's metadata is dropped.

    A node that alone reads `layer1.0.conv1.weight`, or that is all that an `nn.Conv2d` of that name does, is
    `layer1.0.conv1`; the others are named by module and op, `layer1.0.Add`, with a number where there are several. The
    transpose of a weight, which becomes a constant later, is `fc.weight.T`.

    outputs: new names of the graph's outputs, or none to keep those of the exporter.
    """
    taken = {str(value.name) for value in model.graph.inputs}
    taken.update(str(name) for graph in all_graphs(model) for name in graph.initializers)
    for value, name in zip(model.graph.outputs, outputs, strict=False):
        value.name = unique_name(name, taken)
    taken.update(str(value.name) for value in model.graph.outputs)
    nodes = [node for graph in all_graphs(model) for node in graph]
    alone = Counter(_scope(node)[0] for node in nodes)
    names: set[str] = set()
    kept = set(model.graph.outputs)
    for node in nodes:
        node.name = unique_name(_name(node, alone), names)
        names.add(node.name)
        node.metadata_props.clear()  # with stack traces that hold paths of this machine
        for index, value in enumerate(node.outputs):
            value.metadata_props.clear()
            if value.name and value not in kept:
                value.name = unique_name(_value_name(node, index), taken)
                taken.add(value.name)


def _value_name(node: ir.Node, index: int) -> str:
    source = node.inputs[0] if node.op_type == "Transpose" else None
    if source is not None and source.is_initializer():
        return f"{source.name}.T"
    return str(node.name) if index == 0 else f"{node.name}.{index}"


def _name(node: ir.Node, alone: Counter[str]) -> str:
    scope, kind = _scope(node)
    weights = [name for name in map(_weight, node.inputs) if name]
    if len(weights) == 1 and node.op_type != "Transpose":
        return weights[0]
    if scope and alone[scope] == 1 and kind.startswith("torch.nn."):
        return scope
    return f"{scope}.{node.op_type}" if scope else node.op_type


def _weight(value: ir.Value | None) -> str:
    """The module whose weight this is, transposed or not, if nothing else reads it; a tied one is no module's own."""
    producer = None if value is None else value.producer()
    if producer is not None and producer.op_type == "Transpose":
        value = producer.inputs[0]
    if value is None or not value.is_initializer() or not str(value.name).endswith(_WEIGHT) or len(value.uses()) > 1:
        return ""
    return str(value.name).removesuffix(_WEIGHT)


def _scope(node: ir.Node) -> tuple[str, str]:
    """The path of the innermost module that a node comes from, and its class; the last of the scopes is the node's own."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    classes = ast.literal_eval(node.metadata_props.get(_CLASSES, "[]"))
    if len(scopes) < 2 or len(classes) < 2 or scopes[-2].startswith(_NOWHERE):
        return "", ""
    return str(scopes[-2]), str(classes[-2])
