"""The layers of a plan, as the page of a search shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewbit.plan.plan import NodePlan, Plan
from fewbit.spec import QSpec


def layers_of(plan: Plan, work: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Nodes with weights, in the order of the graph: how each computes, its weight and the activation that it reads, and why.

    work: node → its share of the multiplications.
    """
    return [_layer(plan, node, (work or {}).get(name)) for name, node in plan.nodes.items() if node.weight is not None]


def _layer(plan: Plan, node: NodePlan, work: float | None) -> dict[str, Any]:
    site = plan.sites.get(str(node.weight))
    spec = None if site is None else site.spec
    reading = [s for s in plan.edges().values() if s.readers is None or node.node in s.readers]
    return {
        "name": node.node,
        "op": node.op,
        "form": node.form,
        "weight": "float32" if spec is None else _words(spec),
        "bits": 32 if spec is None else spec.dtype.bits,
        "activation": _activation(node, reading),
        "work": work,
        "reason": node.reason,
    }


def _words(spec: QSpec) -> str:
    """`int8 per channel`"""
    if spec.codebook is not None:
        return f"{spec.dtype.bits}-bit codebook {spec.codebook}"
    if not spec.dtype.is_integer:
        return str(spec.dtype)
    groups = [size for size in spec.block_shape if size > 1]
    how = f"in groups of {groups[0]}" if groups else "per tensor" if spec.per_tensor else "per channel"
    return f"{spec.dtype} {how}"


def _activation(node: NodePlan, reading: list[Any]) -> str:
    if node.form == "integer" and reading:
        spec = reading[0].spec
        return str(spec.dtype) if spec is not None else "float32"
    return "int8, ranges found at every run" if node.form == "dynamic" else "float32"
