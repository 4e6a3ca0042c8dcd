"""Mul, Div, Add or Sub by a constant, one number or one a channel, goes into the weights of the node before it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.affine import Vector, foldable_weight, output_channels, per_channel, scale_output
from fewbit.graph.edit import absorb_output, is_op
from fewbit.graph.facts import only_consumer
from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome
from fewbit.graph.ops import weight_of

NAME = "fold_affine"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") or weight_of(node) is None:
            continue
        while (follower := _follower(node)) is not None:
            name = str(follower.name)
            obstacle = _fold(hub, node, follower)
            if obstacle is not None:
                outcomes.append(RuleOutcome(NAME, name, False, obstacle))
                break
            outcomes.append(RuleOutcome(NAME, name, True, f"folded into {node.name}"))
    return outcomes


def _follower(node: ir.Node) -> ir.Node | None:
    """The arithmetic with a constant that alone reads this node."""
    consumer = only_consumer(node.outputs[0])
    if consumer is None or not is_op(consumer, "Mul", "Div", "Add", "Sub") or consumer.graph is not node.graph:
        return None
    if node.op_type == "MatMul" and consumer.op_type in ("Add", "Sub"):
        return None  # a MatMul has no bias; the runtimes fuse the Add themselves
    other = _other(node, consumer)
    return consumer if other is not None and other.const_value is not None else None


def _other(node: ir.Node, follower: ir.Node) -> ir.Value | None:
    return follower.inputs[1] if follower.inputs[0] is node.outputs[0] else follower.inputs[0]


def _fold(hub: Hub, node: ir.Node, follower: ir.Node) -> str | None:
    weight, reason = foldable_weight(node)
    if weight is None:
        return reason
    other = _other(node, follower)
    constant = hub.constant(other)
    if constant is None or constant.dtype != np.float32:
        return "its constant is not float32"
    vector = per_channel(constant, node.outputs[0], weight.channel_axis, output_channels(node, weight))
    if vector is None:
        return f"its constant of shape {list(constant.shape)} is not one number a channel of {node.name}"
    affine = _affine(follower, vector, first=follower.inputs[0] is node.outputs[0])
    if affine is None:
        return "it divides by the output, or by zero"
    obstacle = scale_output(hub, node, weight, *affine)
    if obstacle is None:
        absorb_output(node, follower)
    return obstacle


def _affine(follower: ir.Node, vector: Vector, first: bool) -> tuple[Vector, Vector] | None:
    """(factor, shift) that the follower applies to the node's output; `first` if that is its first operand."""
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    if follower.op_type == "Mul":
        return vector, zero
    if follower.op_type == "Add":
        return one, vector
    if follower.op_type == "Sub":
        return (one, -vector) if first else (-one, vector)
    if not first or not vector.all():
        return None
    return 1.0 / vector, zero
