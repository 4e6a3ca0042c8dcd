"""Legalize: the limits that functions, absorbed activations and the target put on ranges, and what calibration forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fewbit.core.ranges.through import FUNCTIONS
from fewbit.graph.facts import clip_bounds, find_patterns
from fewbit.graph.hub import Hub
from fewbit.plan.plan import NodePlan, SitePlan
from fewbit.plan.wiring import data_inputs
from fewbit.spec import QParams
from fewbit.targets import Target

FIXED = "fixed"
"""The method of a range that the kernel which makes the integers knows by itself."""


def legalize(
    hub: Hub, plans: Mapping[str, NodePlan], sites: Mapping[str, SitePlan], target: Target
) -> dict[str, SitePlan]:
    """The sites with the bounds of absorbed activations, the channel axis that their readers use, and the numbers that the
    target's kernels fix."""
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
        made = result.get(str((by_name[plan.absorbs] if plan.absorbs else node).outputs[0].name))
        fixed = target.rule(node.op_type).fixed if plan.form == "integer" else {}
        if made is not None and made.spec is not None and made.group is None and made.spec.dtype in fixed:
            scale, zero_point = fixed[made.spec.dtype]
            params = QParams(made.spec, np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))
            result[made.site.name] = replace(made, params=params, method=FIXED)
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
