"""Division by a float constant becomes multiplication by its reciprocal: runtimes have integer kernels for that alone.

x * (1/c) and x / c differ by at most 1.5 units in the last place (relative 1.8e-7 in float32).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import add_constant, is_op, replace_node
from fewbit.graph.hub import Hub, constant_array
from fewbit.graph.info import RuleOutcome

NAME = "reciprocal"
_SMALL = 1 << 20
"""Numbers; a larger divisor is a tensor of its own rather than a scale, and is left in its file."""


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if not is_op(node, "Div") or node.inputs[1] is None or node.inputs[1].dtype != ir.DataType.FLOAT:
            continue
        tensor = node.inputs[1].const_value
        if tensor is None or tensor.size > _SMALL:
            continue
        if any(is_op(use.node, "Erf") for use in node.outputs[0].uses()):
            outcomes.append(
                RuleOutcome(NAME, str(node.name), False, "runtimes know the exact Gelu by its Div before Erf")
            )
            continue
        divisor = constant_array(node.inputs[1])
        if divisor is None:
            continue
        with np.errstate(divide="ignore", over="ignore"):
            factor = (1.0 / divisor.astype(np.float64)).astype(np.float32)
        tiny = np.finfo(np.float32).tiny
        if not np.isfinite(factor).all() or (np.abs(factor) < tiny).any():
            outcomes.append(
                RuleOutcome(NAME, str(node.name), False, "the reciprocal of its divisor is not a normal float32")
            )
            continue
        name = str(node.name)
        value = add_constant(hub, factor, f"{node.inputs[1].name}_reciprocal")
        replace_node(hub, node, "Mul", [node.inputs[0], value])
        outcomes.append(RuleOutcome(NAME, name, True, "Div by a constant became Mul"))
    return outcomes
