"""HardSigmoid after a Conv or Gemm becomes Clip(0, 1), with its slope and offset in the weights.

HardSigmoid(x) = clip(alpha * x + beta, 0, 1) by definition, so the result is the same, and a Clip is fused into the
kernel before it, in float as in integers.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.affine import foldable_weight, output_channels, scale_output
from fewbit.graph.edit import add_constant, is_op, real, replace_node
from fewbit.graph.facts import only_consumer
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "fold_hard_sigmoid"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if is_op(node, "HardSigmoid"):
            name = str(node.name)
            obstacle = _fold(hub, node)
            outcomes.append(RuleOutcome(NAME, name, obstacle is None, obstacle or "a Clip of the scaled weights now"))
    return outcomes


def _fold(hub: Hub, node: ir.Node) -> str | None:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or value is None or not is_op(producer, "Conv", "ConvTranspose", "Gemm"):
        return "no Conv or Gemm is before it"
    if only_consumer(value) is not node:
        return f"{value.name!r} is read elsewhere too"
    if hub.opset < 11:
        return "Clip takes its bounds as inputs from opset 11 on"
    weight, reason = foldable_weight(producer)
    if weight is None:
        return reason
    channels = output_channels(producer, weight)
    alpha, beta = real(node, "alpha", 0.2), real(node, "beta", 0.5)
    obstacle = scale_output(hub, producer, weight, np.full(channels, alpha), np.full(channels, beta))
    if obstacle is not None:
        return obstacle
    low = _bound(hub, 0.0)
    high = _bound(hub, 1.0)
    replace_node(hub, node, "Clip", [value, low, high])
    return None


def _bound(hub: Hub, number: float) -> ir.Value:
    """A scalar constant, shared by all the Clips that this rule makes."""
    name = f"hard_sigmoid_{'high' if number else 'low'}"
    existing = hub.graph.initializers.get(name)
    array = hub.constant(existing)
    if existing is not None and array is not None and array.shape == () and float(array) == number:
        return existing
    return add_constant(hub, np.array(number, np.float32), name)
