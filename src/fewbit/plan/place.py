"""Place: which edges and constants hold integers, and which nodes read them.

An edge is *made* as integers when its producer's kernel writes them: then every reader reads the quantized value. A
float edge is quantized for its integer readers alone; the others go on reading the float value. A passthrough node moves
its input's integers, so its output is no site of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fewbit.core.floats import exact_step, is_exact_float16
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.plan import NodePlan, SitePlan
from fewbit.plan.recipe import Setting
from fewbit.plan.select import MIN_STORED_ELEMENTS, quantizes_output
from fewbit.plan.wiring import WITH_OPERAND, constant_operand, data_inputs
from fewbit.spec import FLOAT16, INT8, PER_TENSOR, DType, QSpec, Site
from fewbit.targets import Form, Target

_CHANNEL_FORMS = ("integer", "dynamic")

# Up to so many bits symmetric integers use the lowest one too: among so few levels it gains 0.4 dB (4 bits) to 1.2 dB (2 bits)
# on normally distributed weights.
_FULL_RANGE_BITS = 4

# The range of these functions is known, whatever the samples show.
_FUNCTION_BOUNDS = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}


def place(
    hub: Hub, plans: Mapping[str, NodePlan], settings: Mapping[str, Setting], target: Target
) -> tuple[dict[str, SitePlan], dict[str, str]]:
    """The sites, by value name, and for each value that a passthrough node makes the site whose scale it has."""
    sites: dict[str, SitePlan] = {}
    origin: dict[str, str] = {}
    positions = {str(node.name): i for i, node in enumerate(hub.nodes())}
    by_name = {str(node.name): node for node in hub.nodes()}

    def edge(value: ir.Value, setting: Setting, reader: str | None, reason: str) -> None:
        name = str(value.name)
        if name in origin:
            return
        if name in sites:
            old = sites[name]
            if reader is None or old.readers is None or reader in old.readers:
                return
            sites[name] = replace(old, readers=(*old.readers, reader))
            return
        producer = value.producer()
        bounds = _FUNCTION_BOUNDS.get(producer.op_type) if producer is not None else None
        site = Site(name, "edge", positions[str(producer.name)] if producer is not None else -1)
        dtype = _activation(value, plans, settings, setting.activation.dtype)
        spec = QSpec(dtype, PER_TENSOR, symmetric=setting.activation.symmetric)
        sites[name] = SitePlan(
            site,
            spec,
            reason,
            readers=None if reader is None else (reader,),
            bounds=bounds,
            method=setting.activation.range,
        )

    def constant(value: ir.Value, spec: QSpec, node: ir.Node, method: str, reason: str) -> None:
        name = str(value.name)
        if name not in sites:
            sites[name] = SitePlan(Site(name, "constant", positions[str(node.name)]), spec, reason, method=method)

    for node in hub.nodes():
        plan, setting = plans[str(node.name)], settings[str(node.name)]
        if plan.form in ("integer", "passthrough"):
            for value in data_inputs(node):
                edge(value, setting, node.name, f"read by the integer kernel of {node.name}")
        if plan.form == "passthrough":
            first = str(data_inputs(node)[0].name)
            for output in node.outputs:
                origin[str(output.name)] = origin.get(first, first)
        if plan.form == "integer":
            operand = constant_operand(hub, node) if node.op_type in WITH_OPERAND else None
            if operand is not None:
                held = node.inputs[operand[0]]
                assert held is not None  # constant_operand found it
                asked = setting.activation.dtype
                signed16 = asked.kind == "int" and asked.bits > 8  # which have no zero point
                per_tensor = QSpec(DType(asked.kind, max(asked.bits, 8)), PER_TENSOR, symmetric=signed16)
                constant(held, per_tensor, node, "minmax", f"constant operand of {node.name}")
            if quantizes_output(node, plans, target):
                absorbed = by_name[plan.absorbs] if plan.absorbs else None
                output = (absorbed or node).outputs[0]
                edge(output, setting, None, f"made as integers by {node.name}")
        if plan.weight is not None and plan.form != "float":
            why = f"weight of {node.name}: {plan.reason}"
            if setting.weight.granularity == "group" and not _has_groups(plan.form, target):
                why += "; one scale a channel, for this form has no groups"
            for value, spec in _weights(hub, node, plan, setting, target):
                constant(value, spec, node, setting.weight.range, why)
        if plan.form == "float" and setting.compute != "float":
            for read in node.inputs:
                if read is not None and str(read.name) not in sites and _only_float_readers(read, plans):
                    exact = _exact_format(hub, read)
                    if exact is not None:
                        constant(read, exact, node, "exact", f"{exact.dtype} holds it exactly")
    return sites, origin


def _activation(value: ir.Value, plans: Mapping[str, NodePlan], settings: Mapping[str, Setting], asked: DType) -> DType:
    """The dtype of an edge. Fewer than 8 bits hold where a node with a weight reads it, and are the most that such a reader
    asks for; sums and means go on with 8, which cost nothing more."""
    wanted = _weighted_readers(value, plans, settings)
    if asked.bits >= 8 and all(dtype.bits >= 8 for dtype in wanted):
        return asked
    return max(wanted, key=lambda dtype: dtype.bits, default=DType(asked.kind, 8))


def _weighted_readers(value: ir.Value, plans: Mapping[str, NodePlan], settings: Mapping[str, Setting]) -> list[DType]:
    """What the integer nodes with weights that read a value, or what moves make of it, ask for."""
    found = []
    for node in value.consumers():
        plan = plans.get(str(node.name))
        if plan is not None and plan.form == "integer" and plan.weight is not None:
            found.append(settings[str(node.name)].activation.dtype)
        elif plan is not None and plan.form == "passthrough":
            found += [dtype for output in node.outputs for dtype in _weighted_readers(output, plans, settings)]
    return found


def _only_float_readers(value: ir.Value, plans: Mapping[str, NodePlan]) -> bool:
    readers = [plans.get(str(node.name)) for node in value.consumers()]
    return all(reader is not None and reader.form == "float" for reader in readers)


def _exact_format(hub: Hub, value: ir.Value) -> QSpec | None:
    """A narrower format that loses nothing of a large float32 constant."""
    if value.const_value is None or value.dtype != ir.DataType.FLOAT or value.const_value.size < MIN_STORED_ELEMENTS:
        return None
    array = np.asarray(hub.constant(value), np.float32)
    if exact_step(array) is not None:
        return QSpec(INT8, PER_TENSOR, narrow=True)
    return QSpec(FLOAT16) if is_exact_float16(array) else None


def _weights(hub: Hub, node: ir.Node, plan: NodePlan, setting: Setting, target: Target) -> list[tuple[ir.Value, QSpec]]:
    """The weights of a node with their specs; a recurrent node has two."""
    weight = weight_of(node)
    assert weight is not None  # select decided on it
    values = [weight.value]
    if node.op_type in ("LSTM", "GRU", "RNN") and node.inputs[2] is not None and node.inputs[2].const_value is not None:
        values.append(node.inputs[2])
    result = []
    for value in values:
        rank = len(value.const_value.shape)  # type: ignore[union-attr]
        block = tuple(1 if axis in _scale_axes(node, weight.out_axis, rank) else -1 for axis in range(rank))
        one_scale = plan.form in _CHANNEL_FORMS and not target.rule(node.op_type).per_channel
        if setting.weight.granularity == "tensor" or one_scale:
            block = PER_TENSOR
        elif setting.weight.granularity == "group" and _has_groups(plan.form, target):
            block = _group(value, weight, block, setting.weight.group_size)
        dtype, limit = setting.weight.dtype, None
        sums = plan.form == "dynamic" or (plan.form == "integer" and setting.activation.dtype.bits <= 8)
        if sums and dtype.is_integer and dtype.bits > target.weight_bits:
            simple = node.op_type == "Conv" or (rank == 2 and len(values) == 1)
            if target.pair_limit is None or block == PER_TENSOR or not simple:
                dtype = type(dtype)(dtype.kind, target.weight_bits)
            elif not (weight.is_depthwise and weight.shape[weight.out_axis] == weight.groups):
                # Several outputs a channel are a product of matrices for the runtime, which adds pairs.
                limit = target.pair_limit
        book = setting.weight.codebook
        narrow = dtype.is_integer and book is None and dtype.bits > _FULL_RANGE_BITS
        spec = QSpec(dtype, block, setting.weight.symmetric, narrow, codebook=book, pair_limit=limit)
        result.append((value, spec))
    return result


def _has_groups(form: Form, target: Target) -> bool:
    """Whether weights of a form may have a scale for each group of inputs: not in integer kernels, and where a target stores
    certain dtypes alone, in its weight-only kernels."""
    return form not in _CHANNEL_FORMS and (target.stores is None or form == "weight_only")


def _group(value: ir.Value, weight: Weight, block: tuple[int, ...], size: int) -> tuple[int, ...]:
    """At most `size` weights of one output channel: as many inputs, or all taps of fewer inputs of a convolution."""
    shape = value.const_value.shape  # type: ignore[union-attr]
    axis = weight.in_axis % len(block)
    taps = int(np.prod([n for a, n in enumerate(shape) if block[a] == -1 and a != axis]))
    return tuple(max(1, size // taps) if a == axis else b for a, b in enumerate(block))


def _scale_axes(node: ir.Node, out_axis: int, rank: int) -> tuple[int, ...]:
    """The axes along which a weight has scales of its own. A recurrent weight (directions, gates, inputs) has two."""
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return (0, 1)
    if node.op_type == "Gather":
        return (0,)
    return (out_axis % rank,)
