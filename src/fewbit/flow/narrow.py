"""Weights that are narrow beside float activations: what they do to their nodes, and what they take in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.capture.noise import Perturbation
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_bias, effective_weight
from fewbit.plan.plan import Plan
from fewbit.targets import TARGETS

_FORMS = ("storage", "weight_only", "dynamic")


def stored_narrow(hub: Hub, plan: Plan) -> list[Perturbation]:
    """What narrow weights do at every node that reads floats, and the rounding of those that it rounds as it runs."""
    found = []
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is None or plan.nodes[str(node.name)].form not in _FORMS or len(node.outputs) > 1:
            continue
        site = plan.sites[str(weight.value.name)]
        if site.spec is None:
            continue
        found.append(
            Perturbation(
                str(node.name),
                None,
                None,
                weight.index,
                _narrow(hub, plan, node, weight.value),
                effective_bias(plan, node),
                None,
                _axes(node, plan) if plan.nodes[str(node.name)].form == "dynamic" else None,
            )
        )
    return found


def stored_bytes(hub: Hub, plan: Plan, weight: str) -> int:
    """What a weight takes in a file: its packed elements, scales and zero points, and a codebook's table."""
    site = plan.sites[weight]
    assert site.spec is not None
    value = next(v.const_value for v in hub.graph.initializers.values() if v.name == weight)
    assert value is not None
    count = value.size
    total = -(-count * site.spec.dtype.bits // 8)
    if site.params is not None:
        zeros = 0 if site.spec.symmetric else site.params.zero_point.size
        table = 0 if site.params.table is None else site.params.table.nbytes
        total += site.params.scale.nbytes + zeros + table
    return total


def _axes(node: ir.Node, plan: Plan) -> tuple[int, ...]:
    """The axes over which a dynamic kernel finds one range: ONNX Runtime's over all, others over a row or an image."""
    rank = len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0
    if TARGETS[plan.target].format == "onnx":
        return tuple(range(rank)) or (-1,)
    return tuple(range(1, rank)) if node.op_type == "Conv" else (-1,)


def _narrow(hub: Hub, plan: Plan, node: ir.Node, value: ir.Value) -> Any:
    site = plan.sites[str(value.name)]
    assert site.spec is not None
    if site.params is None:  # float16 and the like
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and the noise with it
            return np.asarray(hub.constant(value), np.float32).astype(site.spec.dtype.storage).astype(np.float32)
    return effective_weight(hub, plan, node, value)
