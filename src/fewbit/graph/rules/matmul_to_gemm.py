"""A MatMul of two matrices with an Add of a vector becomes a Gemm, which has a place for the bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import absorb_output, add_constant, detach, is_op
from fewbit.graph.facts import bias_add
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "matmul_to_gemm"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if not is_op(node, "MatMul") or node.graph is None:
            continue
        add = bias_add(node)
        shapes = [hub.shape(value) for value in node.inputs]
        if add is None or any(shape is None or len(shape) != 2 for shape in shapes):
            continue
        bias = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        array = hub.constant(bias)
        if bias is None or array is None or array.ndim > 2 or array.shape[-1] != shapes[1][1]:  # type: ignore[index]
            continue
        if array.ndim == 2:
            bias = add_constant(hub, np.asarray(array).reshape(-1), str(bias.name))
        gemm = ir.node("Gemm", [*node.inputs, bias], name=hub.fresh_name(str(node.name)))
        gemm.outputs[0].name = hub.fresh_name(str(node.outputs[0].name))
        gemm.outputs[0].type = node.outputs[0].type
        node.graph.insert_before(node, gemm)
        node.outputs[0].replace_all_uses_with(gemm.outputs[0])
        absorb_output(gemm, add)
        detach(node.graph, [node])
        outcomes.append(RuleOutcome(NAME, str(gemm.name), True, f"{node.name} and the bias {add.name} adds"))
    return outcomes
