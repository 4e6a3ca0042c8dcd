"""Weights and biases as the plan's balance factors leave them.

An edge may be divided by one factor a channel before it is quantized, so that its channels use the integers alike. What
reads it multiplies its weight's input channels by the same factors; what makes it divides its weight's output channels
and its bias. The float function is unchanged (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", section 4.1; Xiao et al. 2023, "SmoothQuant", equation 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.quant import dequantize, quantize
from fewbit.core.weights.pairs import round_pairs
from fewbit.core.weights.rows import rows_to_weight, weight_rows
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import made_site


def input_balance(plan: Plan, node: ir.Node) -> NDArray[np.float32] | None:
    """The factors of the edge that an integer node reads, or None."""
    if plan.nodes[str(node.name)].form != "integer" or not node.inputs or node.inputs[0] is None:
        return None
    return _balance(plan.sites, str(node.inputs[0].name))


def output_balance(plan: Plan, node: ir.Node) -> NDArray[np.float32] | None:
    """The factors of the edge that an integer node makes, or None."""
    if plan.nodes[str(node.name)].form != "integer":
        return None
    site = made_site(plan, node)
    return None if site is None else site.balance


def balanced_weight(hub: Hub, plan: Plan, node: ir.Node, value: ir.Value) -> NDArray[np.float32]:
    """A constant of a node, with its input channels multiplied and its output channels divided; float32."""
    array = np.asarray(hub.constant(value), np.float32)
    weight = weight_of(node)
    return array if weight is None or weight.value is not value else balanced(plan, node, weight, array)


def balanced(plan: Plan, node: ir.Node, weight: Weight, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """An array in the shape of a node's weight, with its input channels multiplied and its output channels divided."""
    into, out = input_balance(plan, node), output_balance(plan, node)
    if into is not None and weight.groups == 1:
        array = array * _along(into, weight.in_axis, array.ndim)
    elif into is not None:  # output channel o reads the inputs of its group
        per_group = array.shape[weight.in_axis]
        table = into.reshape(weight.groups, per_group).repeat(array.shape[weight.out_axis] // weight.groups, 0)
        array = array * table.reshape(table.shape + (1,) * (array.ndim - 2))
    if out is not None:
        array = array / _along(out, weight.out_axis, array.ndim)
    return array


def integer_weight(hub: Hub, plan: Plan, node: ir.Node, value: ir.Value) -> NDArray[Any]:
    """The integers (or 8-bit floats) that stand for a constant of a node, whose parameters are chosen: those of a rounding
    algorithm, or the nearest."""
    site = plan.sites[str(value.name)]
    assert site.params is not None
    if site.integers is not None:
        return site.integers
    array = balanced_weight(hub, plan, node, value)
    limit, weight = site.params.spec.pair_limit, weight_of(node)
    if limit is None or weight is None:
        return quantize(array, site.params)
    axes = weight.out_axis, weight.in_axis
    exact = weight_rows(array / site.params.scale, *axes, weight.groups)
    rows = round_pairs(exact, site.params.spec.qmin, site.params.spec.qmax, limit)
    return rows_to_weight(rows, array.shape, *axes).astype(site.params.spec.dtype.storage)


def effective_weight(hub: Hub, plan: Plan, node: ir.Node, value: ir.Value) -> NDArray[np.float32]:
    """What the integers of a node's constant stand for in the float graph, without balance factors; float32."""
    params = plan.sites[str(value.name)].params
    assert params is not None
    rounded = dequantize(integer_weight(hub, plan, node, value), params)
    if input_balance(plan, node) is None and output_balance(plan, node) is None:
        return rounded
    real = np.asarray(hub.constant(value), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(real != 0.0, balanced_weight(hub, plan, node, value) / real, 1.0)
    return (rounded / np.where(factors == 0.0, 1.0, factors)).astype(np.float32)


def effective_bias(plan: Plan, node: ir.Node) -> NDArray[np.float32] | None:
    """The bias that the plan gives a node, without balance factors, or None."""
    bias, out = plan.biases.get(str(node.name)), output_balance(plan, node)
    return bias if bias is None or out is None else (bias * out).astype(np.float32)


def balanced_bias(plan: Plan, node: ir.Node, bias: NDArray[np.floating]) -> NDArray[np.floating]:
    """A bias divided by the factors of the edge that its node makes."""
    out = output_balance(plan, node)
    return bias if out is None else bias / out


def _along(factors: NDArray[np.float32], axis: int, rank: int) -> NDArray[np.float32]:
    return factors.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


def _balance(sites: Mapping[str, SitePlan], name: str) -> NDArray[np.float32] | None:
    return sites[name].balance if name in sites else None
