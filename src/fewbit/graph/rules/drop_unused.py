"""Nodes whose outputs nothing reads, and initializers that nothing reads, are removed."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edit import detach
from fewbit.graph.hub import Hub, all_graphs
from fewbit.graph.info import RuleOutcome

NAME = "drop_unused"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for graph in all_graphs(hub.model):
        for node in reversed(list(graph)):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                for attribute in node.attributes.values():
                    for inner in _subgraphs(attribute):
                        _release(inner)
                detach(graph, [node])
                outcomes.append(RuleOutcome(NAME, str(node.name), True, "nothing reads its outputs"))
        for name, value in list(graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del graph.initializers[name]
                outcomes.append(RuleOutcome(NAME, name, True, "nothing reads this initializer"))
    return outcomes


def _subgraphs(attribute: ir.Attr) -> list[ir.Graph]:
    if attribute.is_ref():
        return []
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return list(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else []


def _release(graph: ir.Graph) -> None:
    """Unhook the nodes of a subgraph from what they read outside."""
    for node in graph.all_nodes():
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
