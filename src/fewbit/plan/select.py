"""Select: in which form each node computes, from the recipe, the target and the wiring alone.

Three walks over the graph. The first decides the nodes that carry weights, which do the work. The second goes forward:
an elementwise, pooling or moving op follows its inputs into integers when all of them are integers already. The third
goes backward and lets go of those that no integer kernel reads, because there a conversion comes anyway. A target that
computes with integers alone has no such nodes, and its inputs are integers from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from fewbit.graph.facts import bias_add, fused_activation
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.plan import NodePlan
from fewbit.plan.recipe import Setting
from fewbit.plan.weight_only import refuse_cost, refuse_kernel
from fewbit.plan.wiring import WITH_OPERAND, constant_operand, data_inputs, is_constant, is_float, rescale_of
from fewbit.targets import Form, OpRule, Target

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather", "LSTM", "GRU", "RNN"})

# Below this many elements a narrow weight saves less than the nodes that expand it take.
MIN_STORED_ELEMENTS = 512

FLOAT_INPUTS = ("its inputs are float", "not all of its inputs are integers: converting them costs more than it saves")
"""Reasons of nodes that compute in float because others do."""


def select(hub: Hub, settings: Mapping[str, Setting], target: Target) -> dict[str, NodePlan]:
    """The form of every node of the top-level graph, by node name."""
    plans: dict[str, NodePlan] = {}
    nodes = hub.nodes()
    for node in nodes:
        if node.op_type in HEAVY and not (target.integers_only and _is_product(node)):
            plans[str(node.name)] = _heavy(hub, node, settings[str(node.name)], target)
    _forward(hub, nodes, plans, settings, target)
    if not target.integers_only:
        _backward(nodes, plans)
    return {str(node.name): plans[str(node.name)] for node in nodes}


def quantizes_output(node: ir.Node, plans: Mapping[str, NodePlan], target: Target) -> bool:
    """Whether an integer node writes integers."""
    plan = plans[str(node.name)]
    if plan.form != "integer":
        return False
    output = target.rule(node.op_type).output
    if output == "optional":
        return plan.absorbs is not None or _read_by_integer_kernels(node.outputs[0], plans, target)
    return output == "required"


def _is_product(node: ir.Node) -> bool:
    """Whether a node multiplies two activations, which an integer kernel does at the scales that they have."""
    return node.op_type == "MatMul" and not any(map(is_constant, node.inputs))


def _heavy(hub: Hub, node: ir.Node, setting: Setting, target: Target) -> NodePlan:
    rule = target.rule(node.op_type)

    def decide(form: Form, reason: str, weight: str | None = None) -> NodePlan:
        return NodePlan(
            str(node.name), node.op_type, form, reason, weight, bias_correction=setting.weight.bias_correction
        )

    weight = weight_of(node)
    if weight is None:
        if node.op_type == "Gather":
            return decide("float", "no constant float table")
        if node.op_type in ("MatMul", "Gemm"):
            return decide("float", "both operands are activations: quantizing them costs what the integer kernel saves")
        return decide("float", "the weight is not constant")
    name = weight.value.name
    if setting.compute == "float":
        return decide("float", setting.reason)
    if weight.value.dtype != ir.DataType.FLOAT:
        return decide("float", f"the weight is {weight.value.dtype}, not float32")
    why_not: str | None = None
    for form in _wanted(node, setting, rule):
        if form not in rule.forms:
            continue
        refused = _refuse(hub, node, form, setting, target)
        if refused is None and form == "weight_only" and setting.compute == "weights":
            refused = refuse_cost(hub, node, target)
        if refused is None:
            return decide(form, _why(form, node, setting, target, why_not), name)
        if form == "weight_only":
            why_not = refused
    refused = _refuse(hub, node, "storage", setting, target) or rule.why or f"the target has no narrow {node.op_type}"
    return decide("float", f"{setting.reason}; {refused}" if setting.reason else refused)


def _wanted(node: ir.Node, setting: Setting, rule: OpRule) -> tuple[Form, ...]:
    """The forms to try for a node with a weight, the best first."""
    if not setting.weight.dtype.is_integer:
        return ("storage",)
    if node.op_type == "Gather" and setting.weight.dtype.bits < 8 and setting.compute != "storage":
        return ("weight_only", "storage")  # the only way to gather packed rows without expanding the table
    if setting.compute in ("weights", "weight_only"):
        return ("weight_only", "storage")
    if setting.compute == "dynamic":
        return ("dynamic", "storage")
    if setting.compute == "integer":
        return ("integer" if "integer" in rule.forms else "dynamic", "storage")
    return ("storage",)


def _refuse(hub: Hub, node: ir.Node, form: Form, setting: Setting, target: Target) -> str | None:
    """Why a heavy node cannot take a form that the target has for its op, or None."""
    rule = target.rule(node.op_type)
    if form == "storage":
        refused = _refuse_storage(setting, target)
        if refused is not None:
            return refused
        weight = weight_of(node)
        elements = weight.value.const_value.size if weight and weight.value.const_value is not None else 0
        if elements < MIN_STORED_ELEMENTS:
            return f"its weight has {elements} elements: the nodes that expand it would take more than it saves"
        return None
    if setting.weight.codebook is not None:
        return f"the kernel takes evenly spaced weights, not codebook {setting.weight.codebook}"
    if form == "weight_only":
        return refuse_kernel(node, setting.weight, target)
    if not any(setting.weight.dtype.kind == d.kind and setting.weight.dtype.bits <= d.bits for d in rule.weights):
        return f"the kernel takes {', '.join(map(str, rule.weights))} weights, not {setting.weight.dtype}"
    if _read_otherwise(node):
        return "another node reads the same weight along other axes, and its scales hold along one"
    if not setting.weight.symmetric:
        return "the kernel takes weights without a zero point; set symmetric: true"
    if form == "integer" and not rule.takes_activation(setting.activation.dtype):
        return f"the kernel takes {', '.join(map(str, rule.activations))} activations, not {setting.activation.dtype}"
    if form == "dynamic" and node.op_type == "LSTM":
        return _refuse_lstm(node)
    if form == "dynamic" and node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1:
        return "a dynamic integer convolution in groups is slower than float; its weights are stored narrow"
    if node.op_type == "Gemm":
        attributes = node.attributes
        if attributes.get_float("alpha", 1.0) != 1.0 or attributes.get_float("beta", 1.0) != 1.0:
            return "alpha and beta differ from 1"
        if attributes.get_int("transA", False):
            return "the activation is transposed"
        if len(node.inputs) > 2 and node.inputs[2] is not None and not is_constant(node.inputs[2]):
            return "the bias is not constant"
    if (
        node.op_type == "Conv"
        and len(node.inputs) > 2
        and node.inputs[2] is not None
        and not is_constant(node.inputs[2])
    ):
        return "the bias is not constant"
    if node.op_type == "MatMul" and not is_constant(node.inputs[1]):
        return "the constant is the left operand"
    return None


def _refuse_storage(setting: Setting, target: Target) -> str | None:
    """Why a file of the target cannot hold such weights, or None."""
    weight = setting.weight
    if target.stores is None:
        return None
    files = f"files for {target.name}"
    if not target.stores:
        return f"{files} hold no narrow weights that are expanded to float"
    if weight.codebook is not None:
        return f"{files} hold no weights of codebook {weight.codebook}"
    if weight.dtype not in target.stores:
        return f"{files} hold {', '.join(map(str, target.stores))} weights, not {weight.dtype}"
    return None if weight.symmetric else f"{files} hold weights without zero points; set symmetric: true"


def _read_otherwise(node: ir.Node) -> bool:
    """Whether the scales of a node's weight, and the pairs of its inputs, are not those of another reader."""
    weight = weight_of(node)
    assert weight is not None  # _heavy asked
    readers = [other for other in map(weight_of, weight.value.consumers()) if other and other.value is weight.value]
    return len({(other.out_axis, other.in_axis, other.groups) for other in readers}) > 1


def _refuse_lstm(node: ir.Node) -> str | None:
    if not is_constant(node.inputs[2]):
        return "the recurrent weight is not constant"
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        return "DynamicQuantizeLSTM with peepholes is not supported"
    if node.attributes.get_int("layout", 0):
        return "DynamicQuantizeLSTM takes layout 0 only"
    return None


def _why(form: Form, node: ir.Node, setting: Setting, target: Target, why_not: str | None) -> str:
    """why_not: what keeps the node from the weight-only kernel, where that was tried."""
    rule = target.rule(node.op_type)
    if form == "weight_only":
        kernel = "a kernel that reads packed weights"
        if target.format == "onnx":
            kernel = "GatherBlockQuantized" if node.op_type == "Gather" else "MatMulNBits"
        return f"{setting.reason}: {kernel}" if setting.reason else f"the target has {kernel}"
    if why_not is not None:
        return f"{setting.reason}: stored narrow, for {why_not}" if setting.reason else f"stored narrow, for {why_not}"
    if form == "storage" and setting.compute == "integer":
        return rule.why or "the op has no integer kernel; its weights are stored narrow"
    if form == "storage" and setting.compute == "dynamic" and "dynamic" not in rule.forms:
        return f"a dynamic integer {node.op_type} is slower than float; its weights are stored narrow"
    if form == "dynamic" and setting.compute == "integer":
        return rule.why
    return setting.reason or f"the target has an integer kernel for {node.op_type}"


def _forward(
    hub: Hub,
    nodes: list[ir.Node],
    plans: dict[str, NodePlan],
    settings: Mapping[str, Setting],
    target: Target,
) -> None:
    """Elementwise, pooling and moving ops follow their inputs; activations vanish into the node before."""
    given = {v for v in hub.graph.inputs if is_float(v)}
    integers: set[ir.Value] = given if target.integers_only else set()  # made as integers
    liftable: set[ir.Value] = set() if target.integers_only else given  # float, but may be quantized before a move
    for node in nodes:
        if str(node.name) in plans:  # heavy, or an activation that its producer absorbed
            if plans[str(node.name)].form == "absorbed":
                continue
        else:
            plans[str(node.name)] = _follow(hub, node, settings[str(node.name)], target, integers, liftable)
        plan = plans[str(node.name)]
        if plan.form == "integer" and target.rule(node.op_type).output != "never":
            last = _absorb(node, plans, settings, target)
            if last is not node:
                plans[str(node.name)] = replace(plan, absorbs=str(last.name))
                integers.add(last.outputs[0])
            elif quantizes_output(node, plans, target):
                integers.add(node.outputs[0])
        elif plan.form == "passthrough":
            inputs = data_inputs(node)
            (integers if any(v in integers for v in inputs) else liftable).update(node.outputs)


def _absorb(node: ir.Node, plans: dict[str, NodePlan], settings: Mapping[str, Setting], target: Target) -> ir.Node:
    """The last of the nodes that the kernel of an integer node does with it, itself where there is no other: the bias that
    follows a MatMul, then an activation function. Their plans say so."""

    def absorbed(other: ir.Node, why: str) -> ir.Node:
        plans[str(other.name)] = NodePlan(str(other.name), other.op_type, "absorbed", why)
        return other

    last, add = node, bias_add(node)
    if add is not None and settings[str(add.name)].compute != "float":
        last = absorbed(add, f"the kernel of {node.name} adds it as its bias")
    activation = fused_activation(last)
    if (
        activation is not None
        and activation.node.op_type in target.fused_activations
        and activation.lo <= 0.0 <= activation.hi
        and settings[str(activation.node.name)].compute != "float"
    ):
        last = absorbed(activation.node, f"the saturation of {node.name}'s output does it")
    return last


def _follow(
    hub: Hub,
    node: ir.Node,
    setting: Setting,
    target: Target,
    integers: set[ir.Value],
    liftable: set[ir.Value],
) -> NodePlan:
    def decide(form: Form, reason: str) -> NodePlan:
        return NodePlan(str(node.name), node.op_type, form, reason)

    rule = target.rule(node.op_type)
    if node.domain not in ("", "ai.onnx"):
        return decide("float", f"{node.domain}.{node.op_type} is a custom op")
    if setting.compute == "float":
        return decide("float", setting.reason)
    if setting.compute != "integer":
        return decide("float", f"recipe asks for {setting.compute}, and it has no weight")
    if not rule.forms and rescale_of(hub, node) is None:
        return decide("float", rule.why)
    inputs = data_inputs(node)
    if not inputs or not all(is_float(v) for v in inputs):
        return decide("float", "its data is not float32")
    if rescale_of(hub, node) is not None and inputs[0] in integers:
        return decide("passthrough", "a multiplication by a constant becomes a change of scale")
    if not rule.takes_activation(setting.activation.dtype):
        return decide("float", f"no kernel for {setting.activation.dtype} {node.op_type}")
    if "passthrough" in rule.forms:
        refused = _refuse_move(hub, node)
        if refused:
            return decide("float", refused)
        if all(v in integers for v in inputs) or all(v in liftable for v in inputs):
            if node.op_type == "Concat" and not _may_share(inputs):
                return decide("integer", "its inputs have other readers, so they keep scales of their own")
            return decide("passthrough", "moves integers")
        return decide("float", FLOAT_INPUTS[0])
    if not all(v in integers for v in inputs):
        return decide("float", FLOAT_INPUTS[1])
    if node.op_type in WITH_OPERAND and len(inputs) == 1 and constant_operand(hub, node) is None:
        return decide("float", "its constant is not finite float32")
    if node.op_type == "AveragePool" and node.attributes.get_int("ceil_mode", False):
        return decide("float", "QLinearAveragePool counts padding differently with ceil_mode")
    return decide("integer", f"its inputs are integers and the target has an integer {node.op_type}")


def _refuse_move(hub: Hub, node: ir.Node) -> str | None:
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]) and node.op_type == "MaxPool":
        return "MaxPool with indices has no integer kernel"
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        return "cubic Resize has no integer kernel"
    if node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "constant":
        value = node.inputs[2] if len(node.inputs) > 2 else None
        fill = hub.constant(value)
        if value is not None and (fill is None or float(fill.reshape(-1)[0]) != 0.0):
            return "pads with a value other than 0"
    if node.op_type == "Clip" and not all(is_constant(v) for v in node.inputs[1:] if v is not None):
        return "its bounds are not constant"
    return None


def _may_share(inputs: list[ir.Value]) -> bool:
    return all(len(set(v.consumers())) == 1 and not v.is_graph_output() for v in inputs)


def _read_by_integer_kernels(value: ir.Value, plans: Mapping[str, NodePlan], target: Target) -> bool:
    readers = value.consumers()
    if value.is_graph_output() or not readers:
        return False
    for reader in readers:
        plan = plans.get(str(reader.name))
        if plan is not None and plan.form == "integer":
            continue
        moves = plan is None and "passthrough" in target.rule(reader.op_type).forms
        if not moves or not _read_by_integer_kernels(reader.outputs[0], plans, target):
            return False
    return True


def _backward(nodes: list[ir.Node], plans: dict[str, NodePlan]) -> None:
    """Nodes that do no heavy work stay integer only where an integer kernel reads them."""
    for node in reversed(nodes):
        plan = plans[str(node.name)]
        if node.op_type in HEAVY or plan.form not in ("integer", "passthrough"):
            continue
        outputs = list(node.outputs)
        if plan.absorbs:
            outputs += [o for reader in node.outputs[0].consumers() for o in reader.outputs]
        readers = {str(reader.name) for output in outputs for reader in output.consumers()} - {plan.absorbs}
        if any(plans[name].form in ("integer", "passthrough") for name in readers if name in plans):
            continue
        plans[str(node.name)] = replace(plan, form="float", absorbs=None, reason="only float nodes read it")
        if plan.absorbs:
            plans[plan.absorbs] = replace(plans[plan.absorbs], form="float", reason="only float nodes read it")
