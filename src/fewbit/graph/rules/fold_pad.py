"""A Pad with zeros before a convolution or pooling becomes that node's own padding, where that is exact."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import bypass, integer, integers, is_op, text
from fewbit.graph.facts import clip_bounds, only_consumer
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.info import RuleOutcome

NAME = "fold_pad"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for node in hub.nodes():
        if is_op(node, "Pad"):
            name = str(node.name)
            consumer = only_consumer(node.outputs[0])
            if consumer is None or not is_op(consumer, "Conv", "AveragePool", "MaxPool"):
                outcomes.append(RuleOutcome(NAME, name, False, "no convolution or pooling alone reads it"))
                continue
            obstacle = _fold(hub, node, consumer)
            outcomes.append(RuleOutcome(NAME, name, obstacle is None, obstacle or f"is padding of {consumer.name} now"))
    return outcomes


def _fold(hub: Hub, node: ir.Node, consumer: ir.Node) -> str | None:
    source = node.inputs[0]
    if source is None or consumer.inputs[0] is not node.outputs[0]:
        return "it pads a weight"
    if text(node, "mode", "constant") != "constant":
        return f"its mode is {text(node, 'mode', 'constant')}, not constant"
    pads = _pads(hub, node)
    if pads is None:
        return "its pads are not constant, or its rank is not known"
    half = len(pads) // 2
    if (pads < 0).any():
        return "it crops"
    if pads[:2].any() or pads[half : half + 2].any():
        return "it pads the batch or channel axis"
    if text(consumer, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{consumer.name} pads by itself (auto_pad)"
    spatial = half - 2
    extra = np.concatenate([pads[2:half], pads[half + 2 :]])
    own = np.array(integers(consumer, "pads", [0] * (2 * spatial)))
    if own.size != extra.size:
        return f"{consumer.name} has {own.size} pads, not {extra.size}"
    if text(consumer, "auto_pad", "NOTSET") == "VALID":
        own = np.zeros_like(own)
    obstacle = _value_obstacle(hub, node, consumer, own, extra)
    if obstacle is not None:
        return obstacle
    consumer.attributes.pop("auto_pad", None)
    consumer.attributes["pads"] = ir.AttrInt64s("pads", (own + extra).tolist())
    if consumer.op_type == "AveragePool":
        consumer.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    bypass(node, source)
    return None


def _pads(hub: Hub, node: ir.Node) -> np.ndarray | None:
    """Begins of all axes, then ends."""
    if len(node.inputs) < 2:
        return np.array(integers(node, "pads", [])) if "pads" in node.attributes else None
    array = hub.constant(node.inputs[1])
    shape = shape_of(node.inputs[0])
    if array is None:
        return None
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return array
    axes = hub.constant(node.inputs[3])
    if axes is None or shape is None:
        return None
    full = np.zeros(2 * len(shape), np.int64)
    full[axes % len(shape)] = array[: axes.size]
    full[axes % len(shape) + len(shape)] = array[axes.size :]
    return full


def _value_obstacle(hub: Hub, node: ir.Node, consumer: ir.Node, own: np.ndarray, extra: np.ndarray) -> str | None:
    """Why the padded numbers would differ. own, extra: the consumer's pads and those to add to them."""
    fill = 0.0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        array = hub.constant(node.inputs[2])
        if array is None:
            return "the value it pads with is not constant"
        fill = float(array.reshape(-1)[0])
    if consumer.op_type == "Conv":
        return None if fill == 0 else f"it pads with {fill}, a Conv with 0"
    if integer(consumer, "ceil_mode", 0):
        return f"{consumer.name} rounds its size up (ceil_mode)"
    kernel = np.array(integers(consumer, "kernel_shape", []))
    if (own + extra >= np.concatenate([kernel, kernel])).any():
        return f"the padding would not be smaller than the kernel of {consumer.name}"
    if consumer.op_type == "AveragePool":
        if fill != 0:
            return f"it pads with {fill}, an AveragePool with 0"
        if own.any() and not integer(consumer, "count_include_pad", 0):
            return f"{consumer.name} leaves its own padding out of the mean"
        return None
    if len(consumer.outputs) > 1 and consumer.outputs[1].uses():
        return f"the indices of {consumer.name} are used"
    if fill <= float(np.finfo(np.float32).min):
        return None
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    bounds = clip_bounds(producer) if producer is not None else None
    if bounds is None or bounds[0] < fill:
        return f"a MaxPool pads with -infinity, not {fill}, and its input may be smaller"
    return None
