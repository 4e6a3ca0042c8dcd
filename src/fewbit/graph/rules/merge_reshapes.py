"""Of several Reshape, Flatten, Squeeze and Unsqueeze in a row only the last shape counts."""

from __future__ import annotations

from fewbit.graph.edit import integer, is_op
from fewbit.graph.hub import Hub, all_graphs, constant_array
from fewbit.graph.info import RuleOutcome

NAME = "merge_reshapes"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for graph in all_graphs(hub.model):
        for node in list(graph):
            if not is_op(node, "Reshape") or node.inputs[0] is None:
                continue
            before = node.inputs[0].producer()
            if not is_op(before, "Reshape", "Flatten", "Squeeze", "Unsqueeze") or before is None:
                continue
            shape = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
            if shape is None:
                continue  # a shape that is computed is common and no news
            if (shape == 0).any() and not integer(node, "allowzero", 0):
                outcomes.append(RuleOutcome(NAME, str(node.name), False, "a 0 in its shape copies a size of its input"))
                continue
            node.replace_input_with(0, before.inputs[0])
            outcomes.append(RuleOutcome(NAME, str(node.name), True, f"needs no {before.op_type} before it"))
    return outcomes
