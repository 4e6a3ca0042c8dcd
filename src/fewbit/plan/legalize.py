"""Legalize: the limits that functions, absorbed activations and the target put on ranges, and what calibration forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbit.core.ranges.through import FUNCTIONS
from fewbit.graph.facts import clip_bounds, find_patterns
from fewbit.graph.hub import Hub
from fewbit.plan.plan import NodePlan, SitePlan
from fewbit.plan.wiring import data_inputs


def legalize(hub: Hub, plans: Mapping[str, NodePlan], sites: Mapping[str, SitePlan]) -> dict[str, SitePlan]:
    """The sites with the bounds of absorbed activations and the channel axis that their readers use."""
    result, by_name = dict(sites), {str(node.name): node for node in hub.nodes()}
    for node in hub.nodes():
        plan = plans[str(node.name)]
        bounds = clip_bounds(by_name[plan.absorbs]) if plan.absorbs else None
        if plan.absorbs and bounds is not None:
            name = str(by_name[plan.absorbs].outputs[0].name)
            result[name] = replace(result[name], bounds=bounds)
        for value in data_inputs(node):
            name = str(value.name)
            if name in result and result[name].channel_axis is None and result[name].site.kind == "edge":
                last = node.op_type in ("MatMul", "Gemm") or value.shape is None or len(value.shape) < 3
                result[name] = replace(result[name], channel_axis=-1 if last else 1)
    for name, function in _read_through(hub).items():
        if name in result and result[name].site.kind == "edge":
            result[name] = replace(result[name], through=function)
    return result


def _read_through(hub: Hub) -> dict[str, str]:
    """Values that a saturating function alone reads → its name."""
    found: dict[str, str] = {}
    for pattern in find_patterns(hub):
        inside = set(pattern.nodes)
        if pattern.kind in FUNCTIONS and all(reader in inside for reader in pattern.input.consumers()):
            found[str(pattern.input.name)] = pattern.kind
    for node in hub.nodes():
        kind = {"Sigmoid": "sigmoid", "HardSwish": "hard_swish"}.get(node.op_type)
        value = node.inputs[0] if node.inputs else None
        if kind is not None and value is not None and len(value.uses()) == 1 and not value.is_graph_output():
            found.setdefault(str(value.name), kind)
    return found
