"""BatchNormalization is folded into the Conv, ConvTranspose, Gemm or MatMul before it, or else after it.

At inference it is y = k * x + s per channel with k = scale / sqrt(var + epsilon) and s = B - k * mean (Ioffe and
Szegedy, "Batch Normalization", 2015, algorithm 1).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.core.normal import Normal
from fewbit.graph.affine import (
    Vector,
    foldable_weight,
    input_channels,
    output_channels,
    scale_input,
    scale_output,
)
from fewbit.graph.edit import absorb_output, add_constant, bypass, can_bypass, integer, is_op, real, replace_node
from fewbit.graph.facts import only_consumer
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.info import RuleOutcome

NAME = "fold_batch_norm"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if is_op(node, "BatchNormalization"):
            name = str(node.name)
            done, reason = _fold(hub, node)
            outcomes.append(RuleOutcome(NAME, name, done, reason))
    return outcomes


def _fold(hub: Hub, node: ir.Node) -> tuple[bool, str]:
    affine = _affine(hub, node)
    if isinstance(affine, str):
        return False, affine
    factor, shift = affine
    name = str(node.outputs[0].name)
    normal = Normal(*(np.asarray(hub.constant(node.inputs[i]), np.float64).reshape(-1) for i in (2, 1)))
    before_reason = _into_producer(hub, node, factor, shift)
    if before_reason is None:
        hub.normals[name] = Normal(normal.mean, np.abs(normal.std))
        return True, "folded into the node before it"
    source = str(node.inputs[0].name)  # type: ignore[union-attr]
    mean, variance = (np.asarray(hub.constant(node.inputs[i]), np.float64).reshape(-1) for i in (3, 4))
    after_reason = _into_consumer(hub, node, factor, shift)
    if after_reason is None:
        hub.normals.setdefault(source, Normal(mean, np.sqrt(variance)))
        return True, "folded into the node after it"
    return False, f"{before_reason}; {after_reason}"


def _affine(hub: Hub, node: ir.Node) -> tuple[Vector, Vector] | str:
    if integer(node, "training_mode", 0):
        return "it is in training mode"
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return "its running statistics are outputs"
    arrays = [hub.constant(value) for value in node.inputs[1:5]]
    if len(arrays) < 4 or any(array is None for array in arrays):
        return "its statistics are not constant"
    scale, bias, mean, var = (np.asarray(array, np.float64).reshape(-1) for array in arrays)
    factor = scale / np.sqrt(var + real(node, "epsilon", 1e-5))
    return factor, bias - factor * mean


def _into_producer(hub: Hub, node: ir.Node, factor: Vector, shift: Vector) -> str | None:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or value is None:
        return "nothing before it has weights"
    if not is_op(producer, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return f"a {producer.op_type} is before it"
    if only_consumer(value) is not node:
        return f"{value.name!r} is read elsewhere too"
    if producer.op_type == "MatMul" and len(shape_of(value) or ()) != 2:
        return f"{producer.name} does not make a matrix, so axis 1 is not its channel axis"
    weight, reason = foldable_weight(producer)
    if weight is None:
        return reason
    if output_channels(producer, weight) != factor.size:
        return f"{producer.name} has {output_channels(producer, weight)} channels, not {factor.size}"
    if producer.op_type == "MatMul":
        reason = scale_output(hub, producer, weight, factor, np.zeros_like(shift)) or ""
        if not reason:
            constant = add_constant(hub, shift.astype(np.float32), f"{node.outputs[0].name}_bias")
            replace_node(hub, node, "Add", [value, constant])
        return reason or None
    reason = scale_output(hub, producer, weight, factor, shift) or ""
    if not reason:
        absorb_output(producer, node)
    return reason or None


def _into_consumer(hub: Hub, node: ir.Node, factor: Vector, shift: Vector) -> str | None:
    consumer = only_consumer(node.outputs[0])
    if consumer is None:
        return "not exactly one node reads it"
    if not is_op(consumer, "Conv", "ConvTranspose", "Gemm", "MatMul") or consumer.inputs[0] is not node.outputs[0]:
        return f"a {consumer.op_type} is after it"
    if is_op(consumer, "Gemm") and integer(consumer, "transA", 0):
        return f"{consumer.name} transposes it"
    if is_op(consumer, "MatMul") and len(shape_of(node.outputs[0]) or ()) != 2:
        return f"{consumer.name} does not read a matrix, so axis 1 is not what it sums over"
    weight, reason = foldable_weight(consumer)
    if weight is None:
        return reason
    if input_channels(consumer, weight) != factor.size:
        return f"{consumer.name} reads {input_channels(consumer, weight)} channels, not {factor.size}"
    source = node.inputs[0]
    if source is None or can_bypass(node, source) is not None:
        return "its input cannot take its place"
    obstacle = scale_input(hub, consumer, weight, factor, shift)
    if obstacle is None:
        bypass(node, source)
    return obstacle
