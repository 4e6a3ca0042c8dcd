"""Weights: the scales of every constant site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import params_from_range
from fewbit.core.codebook.params import codebook_params
from fewbit.core.floats import exact_step, float16_scales
from fewbit.core.weights.hqq import hqq_params
from fewbit.core.weights.pairs import pair_scale
from fewbit.core.weights.rows import weight_rows
from fewbit.core.weights.scales import weight_params
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.balanced import balanced_bias, balanced_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.spec import QParams, QSpec
from fewbit.stages.choose_ranges import JOINT

_INT32_MAX = 2.0**31 - 1
_FLOAT16_SCALES = 4  # a float32 scale for 32 weights would add a bit to each of them: up to here scales become float16

SEQUENTIAL = "sequential_mse"
"""The method of weights whose scales are to be chosen by the outputs of their layers, when they are rounded; those of `mse`
until then."""


def scale_weights(hub: Hub, plan: Plan) -> Plan:
    """The plan with the parameters of its constants; activation ranges must be chosen before.

    The scale of an int32 bias is the product of input and weight scales. A channel whose weights are so small that its
    bias would not fit gets a larger weight scale (its weights then become zero, which is what they amount to).
    """
    values = {str(v.name): v for v in hub.values()}
    chosen: dict[str, SitePlan] = {}
    for name, site in plan.constants().items():
        if site.spec is None or site.params is not None:
            continue
        if not (site.spec.dtype.is_integer or site.spec.dtype.is_float8):
            continue
        reader = next(node for node in values[name].consumers() if str(node.name) in plan.nodes)
        weight = balanced_weight(hub, plan, reader, values[name])
        if site.method == "exact":
            step = exact_step(weight)
            assert step is not None  # place asked
            params = QParams(site.spec, np.asarray(step, np.float32), np.asarray(0, np.int32))
        elif site.spec.codebook is not None or site.spec.dtype.is_float8:
            params = codebook_params(weight, site.spec, method=site.method)  # type: ignore[arg-type]
        elif site.method == "hqq":
            params = hqq_params(weight, site.spec)
        elif site.method == "minmax":  # the constant operand of an elementwise node: every value counts
            params = params_from_range(weight.min(), weight.max(), site.spec)
        elif site.spec.pair_limit is not None:
            params = _paired(weight, site.spec, weight_of(reader))
        else:
            method = "mse" if site.method in (SEQUENTIAL, JOINT) else site.method
            params = weight_params(weight, site.spec, method=method)  # type: ignore[arg-type]
            if stores_float16(site.spec):
                params = replace(params, scale=float16_scales(params.scale))
        chosen[name] = replace(site, params=params)
    return _fit_biases(hub, plan.with_sites(chosen))


def stores_float16(spec: QSpec) -> bool:
    """Whether the scales of a weight are numbers that float16 holds."""
    return spec.dtype.bits <= _FLOAT16_SCALES


def _paired(array: NDArray[np.float32], spec: QSpec, weight: Weight | None) -> QParams:
    """Scales of the output channels of a weight whose pairs are limited."""
    assert weight is not None and spec.pair_limit is not None  # place asked
    rows = weight_rows(array, weight.out_axis, weight.in_axis, weight.groups)
    shape = [1] * array.ndim
    shape[weight.out_axis % array.ndim] = -1
    scale = pair_scale(rows, spec.qmin, spec.qmax, spec.pair_limit).reshape(shape)
    return QParams(spec, scale, np.zeros(scale.shape, np.int32))


def _fit_biases(hub: Hub, plan: Plan) -> Plan:
    widened: dict[str, SitePlan] = {}
    for node in hub.nodes():
        decision = plan.nodes[str(node.name)]
        if decision.form != "integer" or decision.weight is None or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias = hub.constant(node.inputs[2])
        site, edge = plan.sites[decision.weight], _edge_scale(plan, str(node.inputs[0].name))  # type: ignore[union-attr]
        weight = weight_of(node)
        if bias is None or site.params is None or edge is None or weight is None or site.params.scale.ndim == 0:
            continue
        least = np.abs(balanced_bias(plan, node, np.asarray(bias, np.float64).reshape(-1))) / (edge * _INT32_MAX / 2)
        shape = [1] * site.params.scale.ndim
        shape[weight.out_axis % len(shape)] = -1
        scale: NDArray[np.float32] = np.maximum(site.params.scale, least.reshape(shape).astype(np.float32))
        if np.any(scale > site.params.scale):
            widened[decision.weight] = replace(site, params=QParams(site.params.spec, scale, site.params.zero_point))
    return plan.with_sites(widened)


def _edge_scale(plan: Plan, name: str) -> float | None:
    site: Mapping[str, SitePlan] = plan.sites
    params = site[name].params if name in site else None
    return None if params is None else float(params.scale)
