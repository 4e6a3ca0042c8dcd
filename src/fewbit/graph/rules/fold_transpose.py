"""A Transpose of a matrix before a Gemm becomes the Gemm's transA or transB."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edit import integer, integers, is_op
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "fold_transpose"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if not is_op(node, "Gemm"):
            continue
        for index, flag in ((0, "transA"), (1, "transB")):
            value = node.inputs[index]
            before = value.producer() if value is not None else None
            if before is None or not is_op(before, "Transpose") or integers(before, "perm", [1, 0]) != [1, 0]:
                continue
            node.replace_input_with(index, before.inputs[0])
            node.attributes[flag] = ir.AttrInt64(flag, 1 - integer(node, flag, 0))
            outcomes.append(RuleOutcome(NAME, str(node.name), True, f"{flag} does the work of {before.name}"))
    return outcomes
