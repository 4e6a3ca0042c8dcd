"""x becomes x - z, one z a channel; what makes x takes z off its bias, what reads it adds W z to its own.

The shift of Wei et al. 2023, "Outlier Suppression+", equation 3, and for the output of a Relu the high-bias absorption of
Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", equations 12 to 15.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fewbit.graph.affine import (
    Vector,
    absorb_input_shift,
    foldable_weight,
    output_bias,
    output_channels,
    shift_output,
)
from fewbit.graph.edit import add_constant, integer, is_op, set_constant
from fewbit.graph.facts import bias_add, clip_bounds, only_consumer
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.windows import convolution_window

_MAKERS = ("Conv", "Gemm", "Add", "LayerNormalization")


def refuse_reader(hub: Hub, node: ir.Node, value: ir.Value) -> str | None:
    """Why a node cannot make up for a shift of its first input by its bias, or None if it can."""
    weight, reason = foldable_weight(node)
    if weight is None or node.op_type == "ConvTranspose" or node.inputs[0] is not value:
        return reason or f"{node.name} reads it as {node.op_type}"
    if node.op_type == "Conv":
        window = convolution_window(hub, node)
        if window is None or any(map(sum, window.pads)):
            return f"{node.name} pads with zeros, which the shift would have to change"
    if node.op_type == "Gemm" and integer(node, "transA", 0):
        return f"{node.name} transposes it"
    if node.op_type == "MatMul":
        return None if bias_add(node) is not None else f"{node.name} is a MatMul, which has no bias"
    bias, obstacle = output_bias(hub, node, weight)
    return None if bias is not None else obstacle


def maker_of(hub: Hub, value: ir.Value, channels: int, *, last: bool) -> ir.Node | None:
    """The node whose bias, or constant, shifts a value channel by channel; None where there is none.

    last: the channels lie along the last axis; otherwise along axis 1 of an image.

    A Relu or Clip on the way keeps its bounds, so that values are shifted where they lie within them before and after. A sum
    of two activations is not shifted through one of them, whose own range would grow by as much.
    """
    node = value.producer()
    if node is not None and clip_bounds(node) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
        if only_consumer(value) is not node:
            return None
    return _linear_maker(hub, value, channels, last)


def _linear_maker(hub: Hub, value: ir.Value, channels: int, last: bool) -> ir.Node | None:
    node = value.producer()
    if node is None or not is_op(node, *_MAKERS):
        return None
    if node.op_type == "LayerNormalization":
        shape = shape_of(value)
        own = shape is not None and integer(node, "axis", -1) in (-1, len(shape) - 1) and shape[-1] == channels
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return node if last and own and (bias is None or hub.constant(bias) is not None) and not _others(node) else None
    if node.op_type != "Add":
        weight, _ = foldable_weight(node)
        if weight is None or output_channels(node, weight) != channels or last == (node.op_type == "Conv"):
            return None
        return node if output_bias(hub, node, weight)[0] is not None else None
    return node if last and _added(hub, node, channels) is not None else None


def _others(node: ir.Node) -> bool:
    return any(output.uses() or output.is_graph_output() for output in node.outputs[1:])


def _added(hub: Hub, node: ir.Node, channels: int) -> int | None:
    """The input of an Add that is a constant of one number a channel, along the last axis."""
    for index, value in enumerate(node.inputs):
        array = hub.constant(value)
        if array is not None and array.ndim and array.shape[-1] == array.size == channels:
            return index
    return None


def apply(hub: Hub, name: str, shift: Vector, readers: Sequence[str]) -> None:
    """Shift the value `name` by -shift for these readers; in place.

    Where they are all that read it and its maker can take the shift, the maker does; otherwise an addition before them.
    """
    value = hub.value(name)
    nodes = [node for node in dict.fromkeys(value.consumers()) if str(node.name) in readers]
    for node in nodes:
        absorb_input_shift(hub, node, shift)
    alone = len(nodes) == len(set(value.consumers())) and not value.is_graph_output()
    maker = maker_of(hub, value, shift.size, last=nodes[0].op_type != "Conv") if alone else None
    if maker is None:
        _subtract(hub, value, nodes, shift)
    else:
        _shift_maker(hub, maker, -shift)
        value.name = hub.fresh_name(f"{name}_shifted")  # a name stands for the same numbers in every model
        hub.release_name(name)


def _shift_maker(hub: Hub, maker: ir.Node, shift: Vector) -> None:
    if maker.op_type == "LayerNormalization":
        held = hub.constant(maker.inputs[2]) if len(maker.inputs) > 2 else None
        bias = np.zeros(shift.shape) if held is None else np.asarray(held, np.float64)
        set_constant(hub, maker, 2, (bias + shift).astype(np.float32), f"{maker.name}_bias")
    elif maker.op_type == "Add":
        index = _added(hub, maker, shift.size)
        assert index is not None  # maker_of found it
        added = np.asarray(hub.constant(maker.inputs[index]), np.float64)
        set_constant(hub, maker, index, (added + shift.reshape(added.shape)).astype(np.float32), f"{maker.name}_bias")
    else:
        shift_output(hub, maker, shift)


def _subtract(hub: Hub, value: ir.Value, readers: Sequence[ir.Node], shift: Vector) -> None:
    rank = len(value.shape)  # type: ignore[arg-type]
    axis = 1 if readers[0].op_type == "Conv" else rank - 1
    shaped = (-shift).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(rank)])
    constant = add_constant(hub, shaped, f"{value.name}_shift")
    add = ir.node("Add", [value, constant], name=f"{value.name}_shift")
    made = add.outputs[0]
    made.name, made.type, made.shape = hub.fresh_name(f"{value.name}_shifted"), value.type, value.shape
    hub.graph.insert_before(min(readers, key=hub.nodes().index), add)
    for node in readers:
        node.replace_input_with(0, made)
