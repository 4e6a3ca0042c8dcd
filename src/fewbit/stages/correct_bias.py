"""Bias correction: the mean output error of rounded weights is taken off the bias (Nagel et al. 2019, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.quant import dequantize
from fewbit.core.weights.bias import output_shift, tap_coverage
from fewbit.graph.facts import bias_add
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.graph.windows import convolution_window
from fewbit.plan.balanced import balanced_bias, balanced_weight, input_balance, integer_weight
from fewbit.plan.plan import Plan
from fewbit.plan.wiring import node_bias


def corrected(plan: Plan, node: ir.Node) -> bool:
    """Whether this node's bias is corrected: one with rounded weights and a bias, or that can be given a bias."""
    decision = plan.nodes[str(node.name)]
    if (
        decision.form not in ("integer", "storage", "weight_only")
        or decision.weight is None
        or not decision.bias_correction
    ):
        return False
    return node.op_type in ("Conv", "Gemm") or bias_add(node) is not None


def correct_biases(
    hub: Hub,
    plan: Plan,
    means: Mapping[str, NDArray[np.float64]],
    shifts: Mapping[str, NDArray[np.float64]] | None = None,
) -> Plan:
    """The plan with a corrected bias for every node whose input's channel means are known.

    Args:
        means: of each channel of the inputs, by value name: measured, or expected (`fewbit.stages.expected_means`).
        shifts: how far quantizing the inputs moves those means (E[q(x) - x] of each channel), where it is known.
    """
    biases: dict[str, NDArray[np.float32]] = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is None or not corrected(plan, node):
            continue
        name = str(node.inputs[0].name)  # type: ignore[union-attr]
        if name not in means:
            continue
        bias = corrected_bias(hub, plan, node, weight, means[name], (shifts or {}).get(name))
        if bias is not None:
            biases[str(node.name)] = bias
    return replace(plan, biases={**plan.biases, **biases})


def corrected_bias(
    hub: Hub, plan: Plan, node: ir.Node, weight: Weight, mean: NDArray[np.float64], moved: NDArray[np.float64] | None
) -> NDArray[np.float32] | None:
    """The (balanced) bias of a node less the mean error of its output; None where it has none or that cannot be told.

    Args:
        mean: of each channel of its input. moved: how far that mean has moved by quantization, where it is known.
    """
    bias, params = node_bias(hub, node), plan.sites[str(weight.value.name)].params
    if bias is None or params is None:
        return None
    real = balanced_weight(hub, plan, node, weight.value)
    error = dequantize(integer_weight(hub, plan, node, weight.value), params)
    error -= real
    if mean.size != weight.groups * real.shape[weight.in_axis]:
        return None  # the samples were reshaped on the way: no means of these channels
    factors = input_balance(plan, node)
    inside = _coverage(hub, node)
    error *= inside
    units = 1.0 if factors is None else factors
    axes: dict[str, int] = {"out_axis": weight.out_axis, "in_axis": weight.in_axis, "groups": weight.groups}
    shift = output_shift(error, mean / units, **axes)
    if moved is not None and moved.size == mean.size:
        error += real * inside  # the rounded weights
        shift += output_shift(error, moved / units, **axes)
    return (balanced_bias(plan, node, bias) - shift).astype(np.float32)


def _coverage(hub: Hub, node: ir.Node) -> NDArray[np.float32] | float:
    """How often each tap of a convolution's kernel lies inside its input; 1 where the input's size is not known."""
    window = convolution_window(hub, node) if node.op_type == "Conv" else None
    sizes = [n for n in (hub.shape(node.inputs[0]) or ())[2:] if isinstance(n, int)]
    if window is None or len(sizes) != len(window.kernel):
        return 1.0
    table: NDArray[np.float64] = np.ones(())
    for axis, size in enumerate(sizes):
        before, after = window.pads[axis]
        inside = tap_coverage(
            size,
            window.kernel[axis],
            stride=window.strides[axis],
            dilation=window.dilations[axis],
            before=before,
            after=after,
        )
        table = table[..., None] * inside
    return table.astype(np.float32)
