"""The layers of a plan, as the page of a search shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewbit.measure.energy import SOURCE, Arithmetic, Work, estimated
from fewbit.plan.plan import NodePlan, Plan
from fewbit.spec import QSpec

_FLOAT_BYTES = 4
# Kernels of packed weights round activations to 8 bits inside.
_INTEGER_PRODUCTS = ("integer", "dynamic", "weight_only")


def layers_of(plan: Plan) -> list[dict[str, Any]]:
    """Nodes with weights, in the order of the graph: how each computes, its weight and the activation that it reads, and
    why."""
    return [_layer(plan, node) for node in plan.nodes.values() if node.weight is not None]


def can_learn(plan: Plan) -> bool:
    """Whether any layer has a weight on a grid of steps, which training moves: weights in a codebook or as floats have
    none."""
    sites = (plan.sites.get(str(node.weight)) for node in plan.nodes.values() if node.weight is not None)
    specs = [site.spec for site in sites if site is not None and site.spec is not None]
    return any(spec.dtype.is_integer and spec.codebook is None for spec in specs)


def work_of(layers: Sequence[Mapping[str, Any]], products: Mapping[str, Sequence[float]], file_bytes: int) -> Work:
    """What one run of a model does.

    layers: as `layers_of` tells them; empty for the float model. products: node → multiplications, and elements that it
    writes.
    """
    told = {layer["name"]: layer for layer in layers}
    counts: dict[Arithmetic, float] = {}
    written = 0.0
    for name, (count, elements) in products.items():
        layer = told.get(name)
        integers = layer is not None and layer["form"] in _INTEGER_PRODUCTS
        wide = layer is not None and layer["activation"].endswith("16")
        kind: Arithmetic = "float32" if not integers else "int16" if wide else "int8"
        counts[kind] = counts.get(kind, 0.0) + count
        stays = layer is not None and layer["form"] == "integer"
        written += elements * (_FLOAT_BYTES if not stays else 2 if wide else 1)
    return Work(counts, file_bytes, written)


def energy_of(measured: Mapping[str, Any], built: Mapping[str, Any], twin: Mapping[str, Any]) -> dict[str, Any]:
    """Of one run, as a share of the float model's: by the meter, or by an estimate.

    measured, built: what was found of a candidate. twin: of the float model.
    """
    if measured["joules"] is not None:
        whole, own = measured["joules"]
        return {"ratio": own / whole, "estimated": False, "source": measured["meter"]}
    ours = estimated(work_of(built["layers"], twin["products"], built["bytes"]))
    whole = estimated(work_of([], twin["products"], twin["bytes"]))
    return {"ratio": ours / whole, "estimated": True, "source": SOURCE}


def _layer(plan: Plan, node: NodePlan) -> dict[str, Any]:
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
