"""An If whose condition is constant is replaced by the branch it takes.

Exporters write one where a model asks for a rank or a size; once shapes are folded, the answer is known.
"""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edit import detach, is_op
from fewbit.graph.hub import Hub, constant_array
from fewbit.graph.info import RuleOutcome

NAME = "inline_if"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        condition = constant_array(node.inputs[0]) if is_op(node, "If") else None
        if condition is None or condition.size != 1:
            continue
        name = "then_branch" if condition.reshape(-1)[0] else "else_branch"
        branch = node.attributes[name].as_graph()
        if any(value.producer() is None or value.producer().graph is not branch for value in branch.outputs):  # type: ignore[union-attr]
            outcomes.append(
                RuleOutcome(NAME, str(node.name), False, "the branch hands on a constant or an outer value")
            )
            continue
        _inline(hub, node, branch)
        outcomes.append(
            RuleOutcome(NAME, str(node.name), True, f"its condition is constant, the {name} stands in its place")
        )
    return outcomes


def _inline(hub: Hub, node: ir.Node, branch: ir.Graph) -> None:
    """Names are unique over all graphs, so nothing collides."""
    results = list(branch.outputs)
    constants = list(branch.initializers.values())
    branch.outputs.clear()
    branch.initializers.clear()
    inner = list(branch)
    branch.remove(inner)
    for value in constants:
        hub.graph.register_initializer(value)
    hub.graph.insert_before(node, inner)
    for output, result in zip(node.outputs, results, strict=True):
        name, is_output = output.name, output.is_graph_output()
        output.replace_all_uses_with(result, replace_graph_outputs=True)
        if is_output:
            output.name = None
            result.name = name
    for attribute in node.attributes.values():  # the other branch no longer reads what it captured
        for inner_node in attribute.as_graph().all_nodes():
            for index in range(len(inner_node.inputs)):
                inner_node.replace_input_with(index, None)
    detach(hub.graph, [node])
