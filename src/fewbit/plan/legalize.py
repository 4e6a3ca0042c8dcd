"""Legalize: the limits that functions, absorbed activations and the target put on ranges, and what calibration forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbit.graph.facts import fused_activation
from fewbit.graph.hub import Hub
from fewbit.plan.plan import NodePlan, SitePlan
from fewbit.plan.wiring import data_inputs


def legalize(hub: Hub, plans: Mapping[str, NodePlan], sites: Mapping[str, SitePlan]) -> dict[str, SitePlan]:
    """The sites with the bounds of absorbed activations and the channel axis that their readers use."""
    result = dict(sites)
    for node in hub.nodes():
        plan = plans[node.name]
        if plan.absorbs:
            activation = fused_activation(node)
            if activation is not None:
                name = str(activation.node.outputs[0].name)
                result[name] = replace(result[name], bounds=(float(activation.lo), float(activation.hi)))
        for value in data_inputs(node):
            name = str(value.name)
            if name in result and result[name].channel_axis is None and result[name].site.kind == "edge":
                last = node.op_type in ("MatMul", "Gemm") or value.shape is None or len(value.shape) < 3
                result[name] = replace(result[name], channel_axis=-1 if last else 1)
    return result
