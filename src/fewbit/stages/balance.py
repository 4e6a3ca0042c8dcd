"""Balance: edges whose channels differ in range are divided channel by channel.

An edge that a convolution or Gemm makes, and that only depthwise convolutions read, is balanced by the weights on both
sides, which have one scale a channel anyway (cross-layer equalization). A float edge that integer nodes read is balanced
by a multiplication before its quantizer (the migration of SmoothQuant). A clipped activation (ReLU6) keeps factor 1 in
the channels that reach its bound: their clipping stays where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.balance import balance_factors
from fewbit.core.stats import TensorStats
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import made_site

_LEAST_GAIN = 3.0  # dB, by a model of noise that knows nothing of clipped ranges: below it they do as well
_BALANCED = ("Conv", "Gemm", "MatMul")


def balance(hub: Hub, plan: Plan, stats: Mapping[str, TensorStats], *, multiply: bool = True) -> Plan:
    """The plan with balance factors on the edges that gain by them; `multiply`: on float edges too."""
    values = {str(v.name): v for v in hub.values()}
    makers = _makers(hub, plan)
    chosen: dict[str, SitePlan] = {}
    for name, site in plan.edges().items():
        seen = stats.get(name)
        readers = weighted_readers(plan, values[name], site)
        if site.readers is not None and not multiply:
            continue
        if seen is None or readers is None or site.group is not None or site.spec is None:
            continue
        if seen.channel_axis is None or seen.channel_min.size < 2:
            continue
        maker = makers.get(name)
        if site.readers is None and maker is None:
            continue  # made by an elementwise kernel, which has no weights to take the factors
        weights = [weight for node in readers if (weight := _own_weight(plan, node)) is not None]
        if len(weights) != len(readers) or any(
            w.groups * _size(w.value, w.in_axis) != seen.channel_min.size for w in weights
        ):
            continue
        if site.readers is None and not all(w.is_depthwise for w in weights):
            continue  # dense weights would pay for the activation's gain, and more than the model says
        reach = np.maximum(np.abs(seen.channel_min), np.abs(seen.channel_max))
        fixed = None
        if site.bounds is not None and np.isfinite(site.bounds[1]):
            fixed = seen.channel_max >= site.bounds[1] * (1 - 1e-6)
        factors, gain = _factors(hub, weights, reach, seen, site, fixed)
        if gain >= _LEAST_GAIN:
            reason = f"{site.reason}; channels balanced by up to {1 / factors.min():.0f}, about {gain:.1f} dB"
            chosen[name] = replace(site, balance=factors, reason=reason)
    return plan.with_sites(chosen)


def _factors(
    hub: Hub,
    weights: list[Weight],
    reach: NDArray[np.float64],
    seen: TensorStats,
    site: SitePlan,
    fixed: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float32], float]:
    spread = (seen.channel_max - seen.channel_min) / 8  # of a bell curve about eight deviations wide
    tables = [_table(hub, weight) for weight in weights]
    assert site.spec is not None
    levels = site.spec.qmax - site.spec.qmin
    two_sided = seen.minimum < 0.0 < seen.maximum
    return balance_factors(
        reach,
        seen.channel_mean**2 + spread**2,
        sum(t.sum(1) for t, _ in tables),  # type: ignore[arg-type]
        np.concatenate([r for _, r in tables], 1),
        levels=levels // 2 if two_sided else levels,
        weight_levels=127,
        depthwise=all(w.is_depthwise for w in weights),
        fixed=fixed,
    )


def _table(hub: Hub, weight: Weight) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(energy, largest absolute value) of the weights from every input channel [groups · I] to every output [O / groups]."""
    array = np.asarray(hub.constant(weight.value), np.float64)
    out, into = weight.out_axis % array.ndim, weight.in_axis % array.ndim
    array = np.moveaxis(array, (out, into), (0, 1)).reshape(array.shape[out], array.shape[into], -1)
    groups, outputs, inputs = weight.groups, array.shape[0], array.shape[1]
    array = array.reshape(groups, outputs // groups, inputs, -1).transpose(0, 2, 1, 3)
    array = array.reshape(groups * inputs, outputs // groups, -1)
    return (array**2).sum(2), np.abs(array).max(2)


def _makers(hub: Hub, plan: Plan) -> dict[str, ir.Node]:
    """Edge name → the node with a weight that makes it as integers."""
    makers: dict[str, ir.Node] = {}
    for node in hub.nodes():
        if plan.nodes[str(node.name)].form != "integer" or node.op_type not in ("Conv", "Gemm"):
            continue
        site = made_site(plan, node)
        if site is not None and _own_weight(plan, node) is not None:
            makers[site.site.name] = node
    return makers


def weighted_readers(plan: Plan, value: ir.Value, site: SitePlan) -> list[ir.Node] | None:
    """The nodes that read an edge's integers, or None if one of them has no weight to take the factors."""
    readers = [node for node in value.consumers() if site.readers is None or str(node.name) in site.readers]
    if not readers or (site.readers is None and value.is_graph_output()):
        return None
    for node in readers:
        decision = plan.nodes.get(str(node.name))  # none: inside a subgraph
        if (
            decision is None
            or decision.form != "integer"
            or node.op_type not in _BALANCED
            or node.inputs[0] is not value
        ):
            return None
    return readers


def _own_weight(plan: Plan, node: ir.Node) -> Weight | None:
    """The weight of a node, if no other node reads it."""
    weight = weight_of(node)
    return weight if weight is not None and len(weight.value.uses()) == 1 else None


def _size(value: ir.Value, axis: int) -> int:
    assert value.const_value is not None
    return int(value.const_value.shape.numpy()[axis])
