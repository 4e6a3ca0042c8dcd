"""Repair: nodes that 8 bits hurt most go back to float, until the output is as good as was asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from fewbit.capture.noise import Perturbation
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_bias, effective_weight, input_balance, output_balance
from fewbit.plan.plan import Plan
from fewbit.plan.wiring import integer_source, made_site
from fewbit.spec import QParams

_ROUNDING = 1e-9  # shares of all nodes add up to one but for it
_HEAVY = ("Conv", "Gemm", "MatMul")


def perturbations(hub: Hub, plan: Plan) -> list[Perturbation]:
    """What quantization does at every integer node with a weight, in the units of the float graph.

    The rounding of an edge belongs to the node with a weight that makes it; where there is none, to those that read it.
    """
    nodes = [node for node in hub.nodes() if _is_heavy(plan, node)]
    made = {str(node.name): made_site(plan, node) for node in nodes}
    owned = {str(site.site.name) for site in made.values() if site is not None}
    found = []
    for node in nodes:
        weight = weight_of(node)
        params = None if weight is None else plan.sites[str(weight.value.name)].params
        if weight is None or params is None or node.inputs[0] is None:
            continue
        axis = 1 if node.op_type == "Conv" else -1
        into, out = input_balance(plan, node), output_balance(plan, node)
        source = integer_source(plan, node.inputs[0])
        if source is not None and (source.site.name in owned or _is_wide(source.params)):
            source = None
        bias = effective_bias(plan, node)
        site = made[str(node.name)]
        output = None
        if site is not None and site.params is not None and not _is_wide(site.params):
            output = (site.site.name, site.params, None if out is None else (axis, out))
        found.append(
            Perturbation(
                str(node.name),
                None if source is None else source.params,
                None if into is None else (axis, into),
                weight.index,
                effective_weight(hub, plan, node, weight.value),
                bias,
                output,
            )
        )
    return found


def _is_heavy(plan: Plan, node: ir.Node) -> bool:
    return plan.nodes[str(node.name)].form == "integer" and node.op_type in _HEAVY


def _is_wide(params: QParams | None) -> bool:
    """16 bits: their rounding is nothing beside that of weights."""
    return params is not None and params.spec.dtype.bits > 8


def worst_nodes(
    noise: Mapping[str, float], least_sqnr: float, work: Mapping[str, float], share: float
) -> tuple[list[str], float]:
    """Nodes to return to float, worst first, and the SQNR in dB that is then expected at the outputs.

    They are taken until `least_sqnr` is expected; a node that would raise the work in float above `share` is left out.
    The noises of single nodes are taken to add up, as they do while they are small and independent.

    Args:
        noise: node → noise-to-signal ratio that it alone brings to the outputs.
        work: node → its share of all multiplications.
    """
    remaining, allowed = sum(noise.values()), 10.0 ** (-least_sqnr / 10)
    chosen: list[str] = []
    spent = 0.0
    for name, ratio in sorted(noise.items(), key=lambda item: -item[1]):
        if remaining <= allowed:
            break
        if spent + work.get(name, 0.0) > share + _ROUNDING:
            continue
        chosen.append(name)
        spent += work.get(name, 0.0)
        remaining -= ratio
    return chosen, float(-10 * np.log10(max(remaining, 1e-30)))
