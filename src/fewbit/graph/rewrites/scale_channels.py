"""x becomes x / s, one factor a channel: what makes x is divided by s, the weights that read it are multiplied.

The equivalent transformation of Lin et al. 2024, "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration", section 3.2. A value is divided where it is made: in the weight of a normalization, the output channels of a
product, a constant that multiplies it; through additions of constants, Relu, one factor of an elementwise product, and the
attention that mixes positions but no channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fewbit.errors import PlanError
from fewbit.graph.affine import Vector, foldable_weight, output_bias, output_channels, scale_input, scale_output
from fewbit.graph.edit import integer, integers, is_op, set_constant
from fewbit.graph.facts import only_consumer
from fewbit.graph.hub import ONNX_DOMAINS, Hub, shape_of
from fewbit.graph.ops import Weight

# Inputs that a normalization multiplies its result by or adds to it, by its name with the domain in front.
_NORMS = {
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
    "com.microsoft.SkipLayerNormalization": (2, 3),
    "com.microsoft.SkipSimplifiedLayerNormalization": (2,),
}


@dataclass(slots=True)
class Makers:
    """What is divided so that a value is. values: on the way, the value itself among them. constants: (node, input) of
    vectors. products: nodes whose output channels are divided."""

    values: list[ir.Value]
    constants: list[tuple[ir.Node, int]]
    products: list[ir.Node]


def reader_weight(node: ir.Node, value: ir.Value) -> Weight | str:
    """The matrix (on the right of a MatMul or Gemm) by which a node multiplies a value, and nothing else does; or why there
    is none."""
    weight, reason = (
        foldable_weight(node) if is_op(node, "MatMul", "Gemm") else (None, f"{node.name} is a {node.op_type}")
    )
    if weight is None:
        return reason
    if node.inputs[0] is not value or any(other is value for other in node.inputs[1:]):
        return f"{node.name} reads it beside its first input"
    if node.op_type == "Gemm" and integer(node, "transA", 0):
        return f"{node.name} transposes it"
    if len(weight.value.uses()) > 1:
        return f"{weight.name} is shared by several nodes"
    return weight


def find_makers(hub: Hub, value: ir.Value, channels: int) -> Makers | str:
    """What to divide so that the channels of a value, along its last axis, are divided and nothing else changes; or why
    that cannot be."""
    makers = Makers([], [], [])
    obstacle = _trace(hub, value, channels, makers)
    return makers if obstacle is None else obstacle


def apply(hub: Hub, name: str, factors: Vector, readers: Sequence[str]) -> None:
    """Divide the channels of the value `name`, and multiply what its readers do with them; in place.

    Raises:
        PlanError: the graph is not one in which that changes nothing else.
    """
    value = hub.value(name)
    nodes = list(dict.fromkeys(value.consumers()))
    makers = find_makers(hub, value, factors.size)
    if isinstance(makers, str) or {str(node.name) for node in nodes} != set(readers):
        why = makers if isinstance(makers, str) else f"its readers are not {', '.join(readers)}"
        raise PlanError(f"rewrite awq of {name} cannot be done: {why}; make the plan again from its recipe")
    none = np.zeros(factors.shape)
    for node in nodes:
        weight = reader_weight(node, value)
        obstacle = weight if isinstance(weight, str) else scale_input(hub, node, weight, factors, none)
        if obstacle is not None:
            raise PlanError(f"rewrite awq of {name} cannot be done: {obstacle}; make the plan again from its recipe")
    for node, index in makers.constants:
        held = np.asarray(hub.constant(node.inputs[index]), np.float64)
        shape = held.shape if held.size == factors.size else factors.shape
        divided = np.broadcast_to(held.reshape(-1), factors.shape) / factors
        set_constant(hub, node, index, divided.astype(np.float32).reshape(shape), f"{node.name}_constant")
    for node in makers.products:
        made, _ = foldable_weight(node)
        assert made is not None  # find_makers asked
        obstacle = scale_output(hub, node, made, 1.0 / factors, none)
        if obstacle is not None:
            raise PlanError(f"rewrite awq of {name} cannot be done: {obstacle}; make the plan again from its recipe")
    for scaled in makers.values:
        old = str(scaled.name)
        scaled.name = hub.fresh_name(f"{old}_scaled")  # a name stands for the same numbers in every model
        hub.release_name(old)


def _trace(hub: Hub, value: ir.Value, channels: int, makers: Makers) -> str | None:
    """Follow a value to what makes it; why it cannot be divided, or None."""
    node = value.producer()
    shape = shape_of(value)
    if node is None or node.graph is not hub.graph:
        return f"{value.name} is not made by a node of the main graph"
    if shape is None or shape[-1:] != (channels,):
        return f"the last axis of {value.name} is not known to hold {channels} channels"
    if makers.values and only_consumer(value) is None:
        return f"{value.name} is read elsewhere too"
    makers.values.append(value)
    if _kind(node) in _NORMS:
        return _trace_norm(hub, node, value, channels, makers)
    if is_op(node, "Mul", "Add"):
        return _trace_elementwise(hub, node, value, channels, makers)
    if is_op(node, "Relu"):
        return _trace(hub, node.inputs[0], channels, makers)  # type: ignore[arg-type]
    if is_op(node, "Reshape"):
        mixed = _mixed_by_attention(node, channels, makers)
        return mixed if isinstance(mixed, str) else _trace(hub, mixed, channels, makers)
    return _trace_product(hub, node, channels, makers)


def _kind(node: ir.Node) -> str:
    return node.op_type if node.domain in ONNX_DOMAINS else f"{node.domain}.{node.op_type}"


def _trace_norm(hub: Hub, node: ir.Node, value: ir.Value, channels: int, makers: Makers) -> str | None:
    rank = len(value.shape)  # type: ignore[arg-type]
    if value is not node.outputs[0] or integer(node, "axis", -1) not in (-1, rank - 1):
        return f"{node.name} does not normalize the last axis alone"
    for index in _NORMS[_kind(node)]:
        held = node.inputs[index] if index < len(node.inputs) else None
        if held is None and index == _NORMS[_kind(node)][0]:
            return f"{node.name} has no weight"
        if held is None:
            continue
        array = hub.constant(held)
        if array is None or array.size != channels:
            return f"{held.name} of {node.name} is not a constant of one number a channel"
        makers.constants.append((node, index))
    return None


def _trace_elementwise(hub: Hub, node: ir.Node, value: ir.Value, channels: int, makers: Makers) -> str | None:
    rank = len(value.shape)  # type: ignore[arg-type]
    for index, operand in enumerate(node.inputs):
        array = hub.constant(operand)
        if array is None:
            continue
        vector = array.ndim > 0 and array.shape[-1] == array.size == channels
        if array.ndim > rank or not (vector or (array.size == 1 and node.op_type == "Add")):
            # One number: a step of a function that is spelled out, such as Gelu, which would no longer be known.
            return f"{node.name} does not have one constant a channel"
        makers.constants.append((node, index))
        return None if node.op_type == "Mul" else _trace(hub, node.inputs[1 - index], channels, makers)  # type: ignore[arg-type]
    if node.op_type == "Add":
        return f"{node.name} adds two activations"
    reasons = []
    for operand in node.inputs:
        attempt = Makers(list(makers.values), [], [])
        same = operand is not None and len(shape_of(operand) or ()) == rank
        obstacle = (
            _trace(hub, operand, channels, attempt) if same and operand is not None else f"{node.name} broadcasts"
        )
        if obstacle is None:
            makers.values = attempt.values
            makers.constants += attempt.constants
            makers.products += attempt.products
            return None
        reasons.append(obstacle)
    return " and ".join(reasons)


def _trace_product(hub: Hub, node: ir.Node, channels: int, makers: Makers) -> str | None:
    weight, reason = (
        foldable_weight(node) if is_op(node, "MatMul", "Gemm") else (None, f"{node.name} is a {node.op_type}")
    )
    if weight is None:
        return reason
    if output_channels(node, weight) != channels:
        return f"{node.name} does not make {channels} channels"
    if len(weight.value.uses()) > 1:
        return f"{weight.name} is shared by several nodes"
    bias, reason = output_bias(hub, node, weight)
    if bias is None:
        return reason
    makers.products.append(node)
    return None


def _mixed_by_attention(merge: ir.Node, channels: int, makers: Makers) -> ir.Value | str:
    """The values v of an attention whose heads a Reshape merges, if its output channel by channel is a mixture of theirs:
    v → Reshape (…, heads, width) → Transpose → product with the probabilities → Transpose → Reshape (…, channels)."""
    reason = f"{merge.name} does not merge the heads of an attention that keeps its channels apart"
    path: list[ir.Value] = []

    def back(value: ir.Value | None, op: str, index: int = 0) -> ir.Value | None:
        node = None if value is None else value.producer()
        if value is None or not is_op(node, op) or only_consumer(value) is None:
            return None
        path.append(value)
        assert node is not None
        ordered = op != "Transpose" or integers(node, "perm", []) == [0, 2, 1, 3]
        return node.inputs[index] if ordered else None

    value = back(merge.inputs[0], "Transpose")
    value = back(value, "MatMul", 1)
    value = back(value, "Transpose")
    source = back(value, "Reshape")
    heads = [shape_of(v) for v in (merge.inputs[0], value) if v is not None]
    own = None if source is None else shape_of(source)
    if source is None or len(heads) != 2 or any(shape is None or len(shape) != 4 for shape in heads) or own is None:
        return reason
    (first, second) = (shape[2:] for shape in heads if shape is not None)
    known = all(isinstance(size, int) for size in first)
    if first != second or not known or int(first[0] or 0) * int(first[1] or 0) != channels or own[-1:] != (channels,):
        return reason
    if len(own) != 3:
        return reason
    makers.values += path
    return source
