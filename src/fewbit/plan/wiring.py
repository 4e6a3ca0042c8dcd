"""Small questions about nodes and values that the resolve passes and the lowering share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.plan import Plan, SitePlan

_BIASED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Inputs that carry no data: shapes, indices, pads, bounds.
_DATA_INPUTS = {"Concat": None, "Add": 2, "Mul": 2, "Sub": 2, "Div": 2, "Max": None, "Min": None, "Sum": None}


def is_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The activations that a node computes with, without constants, shapes, indices and bounds."""
    count = _DATA_INPUTS.get(node.op_type, 1)
    return [v for v in node.inputs[:count] if v is not None and not is_constant(v)]


def constant_operand(hub: Hub, node: ir.Node) -> tuple[int, NDArray[np.float32]] | None:
    """(input index, values) of the constant operand of a two-operand op, if it is finite float32."""
    for index, value in enumerate(node.inputs[:2]):
        if value is not None and is_constant(value):
            array = hub.constant(value)
            if array is not None and array.dtype == np.float32 and array.size and np.isfinite(array).all():
                return index, array.astype(np.float32, copy=False)
    return None


def rescale_of(hub: Hub, node: ir.Node) -> float | None:
    """The factor of a node that multiplies its activation by one positive constant (Mul, or Div by it), else None."""
    if node.op_type not in ("Mul", "Div"):
        return None
    operand = constant_operand(hub, node)
    if operand is None or operand[1].size != 1 or (node.op_type == "Div" and operand[0] == 0):
        return None
    value = node.inputs[1 - operand[0]]
    if value is None or value.shape is None or len(operand[1].shape) > len(value.shape):
        return None  # the constant would add axes
    factor = float(operand[1].reshape(-1)[0])
    if not 1e-6 < factor < 1e6:
        return None
    return factor if node.op_type == "Mul" else 1.0 / factor


def integer_source(plan: Plan, value: ir.Value) -> SitePlan | None:
    """The site whose integers stand for a value: its own, or that of what passthrough nodes moved; None if neither, or
    if the scale changed on the way."""
    while True:
        site = plan.sites.get(str(value.name))
        if site is not None and site.site.kind == "edge":
            return site
        node = value.producer()
        decision = None if node is None else plan.nodes.get(str(node.name))
        if node is None or decision is None or decision.form != "passthrough" or node.op_type in ("Mul", "Div"):
            return None
        inputs = data_inputs(node)
        if not inputs:
            return None
        value = inputs[0]


def scaled_source(hub: Hub, plan: Plan, value: ir.Value) -> tuple[SitePlan, float] | None:
    """The site whose integers stand for a value, and the factor of its scale that multiplications on the way make; None where
    the value is no integers."""
    factor = 1.0
    while (site := integer_source(plan, value)) is None:
        node = value.producer()
        decision = None if node is None else plan.nodes.get(str(node.name))
        if node is None or decision is None or decision.form != "passthrough" or not data_inputs(node):
            return None
        factor, value = factor * (rescale_of(hub, node) or 1.0), data_inputs(node)[0]
    return site, factor


def made_site(plan: Plan, node: ir.Node) -> SitePlan | None:
    """The site of the edge that a node makes as integers (that of the last node it absorbs, if there is one), or None."""
    last, output = node, node.outputs[0]
    absorbed = plan.nodes[str(node.name)].absorbs
    while absorbed is not None and last.name != absorbed:
        last = next(reader for reader in output.consumers() if plan.nodes[str(reader.name)].form == "absorbed")
        output = last.outputs[0]
    site = plan.sites.get(str(output.name))
    return site if site is not None and site.readers is None else None


def node_bias(hub: Hub, node: ir.Node) -> NDArray[np.float64] | None:
    """The constant bias that a Conv, Gemm or MatMul has or could be given, one value an output channel; None where there
    is none and none can be given (a MatMul that no addition follows), or where it is no such constant."""
    weight = weight_of(node)
    if weight is None or node.op_type not in _BIASED:
        return None  # a third input of another operator (Gather has none, of an LSTM it is a weight) is no bias
    width = weight.shape[weight.out_axis]
    if node.op_type == "MatMul":
        add = bias_add(node)
        if add is None:
            return None
        value = add.inputs[bias_index(add, node)]
    else:
        value = node.inputs[2] if len(node.inputs) > 2 else None
    array = np.zeros(width) if value is None else hub.constant(value)
    if array is None or array.size not in (1, width):
        return None
    return np.broadcast_to(np.asarray(array, np.float64).reshape(-1), (width,))
