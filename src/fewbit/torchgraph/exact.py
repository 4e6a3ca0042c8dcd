"""A layer in integers, number for number as ONNX Runtime's QLinearConv and QGemm compute it.

Both add products of integers exactly, in 32 bits, and bring a sum a to the output's integers as MLAS does: the multiplier
m = s_x · s_w / s_y in float32, in this order; then clip(float32(a) · m, q_min − z, q_max − z), rounded half to even, plus z.
Fake quantization in float32 comes near to that and not onto it: it rounds the sum of the products, and divides where a runtime
multiplies, so that some values next to the middle between two integers go the other way.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import balanced_bias, integer_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import data_inputs, made_site, node_bias, scaled_source
from fewbit.plan.written import accumulator_bias
from fewbit.spec import QParams
from fewbit.torchgraph.compile import describe_node
from fewbit.torchgraph.ops.conv import convolve


def is_exact(hub: Hub, plan: Plan, node: ir.Node) -> bool:
    """Whether a node is one that `exact_layer` computes: a convolution or product that reads and makes integers of 8 bits."""
    decision = plan.nodes.get(str(node.name))
    if decision is None or decision.form != "integer" or node.op_type not in ("Conv", "Gemm"):
        return False
    made = made_site(plan, node)
    read = scaled_source(hub, plan, data_inputs(node)[0])
    sites = (None if read is None else read[0], made)
    return all(s is not None and s.spec is not None and s.spec.dtype.bits <= 8 for s in sites)


def exact_layer(hub: Hub, plan: Plan, node: ir.Node, x: Tensor) -> Tensor:
    """The integers that a node makes of integers, as float64.

    Args:
        hub, plan: as they are lowered. node: of the hub, one for which `is_exact` holds.
        x: the integers of its input, any dtype.
    """
    read, made, found = scaled_source(hub, plan, data_inputs(node)[0]), made_site(plan, node), weight_of(node)
    assert read is not None and made is not None and found is not None
    source, target, scaled = _params(read[0]), _params(made), _params(plan.sites[found.name])
    weight = torch.from_numpy(integer_weight(hub, plan, node, found.value).astype(np.float64))
    step = (np.float32(float(source.scale) * read[1]) * scaled.scale.reshape(-1)).astype(np.float32)
    sizes = (found.shape[found.out_axis],)
    bias: NDArray[np.floating] | None = plan.biases.get(str(node.name))
    if bias is None:
        constant = node_bias(hub, node)
        bias = np.zeros(1) if constant is None else np.asarray(balanced_bias(plan, node, constant), np.float32)
    added = torch.from_numpy(accumulator_bias(np.broadcast_to(bias, sizes), step).astype(np.float64))
    centred = x.to(torch.float64) - float(source.zero_point)
    if node.op_type == "Conv":
        sums = convolve(describe_node(node, hub.model.opset_imports), centred, weight, added)
        shape = (-1, *[1] * (sums.dim() - 2))
    else:
        sums = centred @ (weight.t() if found.out_axis == 0 else weight) + added
        shape = (-1,)
    multiplier = torch.from_numpy(step / np.float32(target.scale)).reshape(shape)
    zero = float(target.zero_point)
    low, high = target.spec.dtype.qmin - zero, target.spec.dtype.qmax - zero
    return (sums.to(torch.float32) * multiplier).clamp(low, high).round().to(torch.float64) + zero


def _params(site: SitePlan) -> QParams:
    assert site.params is not None
    return site.params
