"""Facts about nodes that a plan needs: what a runtime will fuse, which patterns a subgraph spells out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fewbit.graph.hub import Hub, constant_array
from fewbit.graph.masks import MaskedScores, attention_mask_adds
from fewbit.graph.patterns import Pattern, activation_pattern, normalization_pattern
from fewbit.graph.tails import DetectionTail, State, detection_tails, softmax_inputs, state_inputs, tied_weights

__all__ = [
    "Activation",
    "DetectionTail",
    "MaskedScores",
    "Pattern",
    "State",
    "attention_mask_adds",
    "bias_add",
    "clip_bounds",
    "detection_tails",
    "find_patterns",
    "fused_activation",
    "gelu",
    "hard_swish",
    "only_consumer",
    "set_bias",
    "silu",
    "softmax_inputs",
    "state_inputs",
    "tied_weights",
]


@dataclass(frozen=True, slots=True)
class Activation:
    """A Relu or Clip that the producer's kernel can do: its node and the bounds, -inf or inf where there are none."""

    node: ir.Node
    lo: float
    hi: float


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The node that reads this value, if exactly one does, once, and it is no graph output."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    return uses[0].node


def fused_activation(node: ir.Node) -> Activation | None:
    """The Relu or Clip with constant bounds that alone reads the first output of a node."""
    consumer = only_consumer(node.outputs[0])
    if consumer is None or consumer.graph is not node.graph or consumer.inputs[0] is not node.outputs[0]:
        return None
    bounds = clip_bounds(consumer)
    return None if bounds is None else Activation(consumer, *bounds)


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """(lowest, highest) output of a Relu or of a Clip with constant bounds, else None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return None
    bounds = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is not None:
            array = constant_array(value)
            if array is None or array.size != 1:
                return None
            bounds.append(float(array.reshape(-1)[0]))
        else:
            attribute = node.attributes.get(name)
            bounds.append(float(default if attribute is None else attribute.as_float()))
    return bounds[0], bounds[1]


def bias_add(matmul: ir.Node) -> ir.Node | None:
    """The Add of a constant vector (the size of the last axis) that alone reads a MatMul."""
    if matmul.op_type not in ("MatMul", "FusedMatMul"):
        return None
    add = only_consumer(matmul.outputs[0])
    if add is None or add.op_type != "Add" or add.graph is not matmul.graph:
        return None
    other = add.inputs[1] if add.inputs[0] is matmul.outputs[0] else add.inputs[0]
    if other is None or other.const_value is None:
        return None
    shape = tuple(other.const_value.shape.numpy())
    if not shape or any(size != 1 for size in shape[:-1]):
        return None
    rank = None if matmul.outputs[0].shape is None else len(matmul.outputs[0].shape)
    if rank is not None and len(shape) > rank:
        return None  # the Add would add axes
    return add


def bias_index(add: ir.Node, product: ir.Node) -> int:
    """Which input of an Add that follows a product is the bias."""
    return 0 if add.inputs[1] is product.outputs[0] else 1


def set_bias(node: ir.Node, value: ir.Value) -> None:
    """Give a node with a weight this bias: in the Add that follows a MatMul where there is one, else as its third input."""
    add = bias_add(node) if node.op_type == "MatMul" else None
    if add is not None:
        add.replace_input_with(bias_index(add, node), value)
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, value)


def hard_swish(node: ir.Node) -> Pattern | None:
    """x * clip(x + 3, 0, 6) / 6 in any spelling, if this node is its last step."""
    return _of_kind(node, "hard_swish")


def silu(node: ir.Node) -> Pattern | None:
    """x * sigmoid(x) in any spelling, if this node is its last step."""
    return _of_kind(node, "silu")


def gelu(node: ir.Node) -> Pattern | None:
    """Gelu, exact (`gelu`) or by tanh (`gelu_tanh`), in any spelling, if this node is its last step."""
    return _of_kind(node, "gelu", "gelu_tanh")


def _of_kind(node: ir.Node, *kinds: str) -> Pattern | None:
    pattern = activation_pattern(node)
    return pattern if pattern is not None and pattern.kind in kinds else None


def find_patterns(hub: Hub) -> list[Pattern]:
    """All activations and normalizations that are spelled out in several nodes, the larger where two overlap."""
    found = [p for node in hub.nodes() if (p := activation_pattern(node) or normalization_pattern(node)) is not None]
    found = [p for p in found if len(p.nodes) > 1]
    inside: set[ir.Node] = set()
    kept = []
    for pattern in sorted(found, key=lambda p: -len(p.nodes)):
        if not inside.intersection(pattern.nodes):
            inside.update(pattern.nodes)
            kept.append(pattern)
    return [p for p in found if p in kept]
