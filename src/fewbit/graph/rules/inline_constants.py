"""Constant nodes become initializers, so that a constant has one form."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edit import detach, is_op
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "inline_constants"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if not is_op(node, "Constant"):
            continue
        output = node.outputs[0]
        tensor = ir.convenience.get_const_tensor(output)
        if tensor is None:
            outcomes.append(RuleOutcome(NAME, str(node.name), False, "its attribute is not a tensor, number or string"))
            continue
        if output.is_graph_output():
            outcomes.append(RuleOutcome(NAME, str(node.name), False, f"it makes the graph output {output.name!r}"))
            continue
        name = output.name
        value = ir.Value(name=None, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()))
        output.replace_all_uses_with(value)
        detach(hub.graph, [node])
        output.name = None
        value.name = name
        value.const_value = tensor
        hub.graph.register_initializer(value)
        outcomes.append(RuleOutcome(NAME, str(node.name), True, "an initializer now"))
    return outcomes
