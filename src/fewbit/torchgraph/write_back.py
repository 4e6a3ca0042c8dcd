"""What was trained, back in a hub and a plan that any export door takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.plan.balanced import effective_weight
from fewbit.plan.plan import Plan
from fewbit.plan.written import with_biases
from fewbit.torchgraph.quantized import QuantizedGraph


def write_back(quantized: QuantizedGraph) -> tuple[Hub, Plan]:
    """The trained model: a hub, and the plan that quantizes it.

    The weights of the hub are what their integers stand for, so that it differs from what the plan makes of it by the
    rounding of activations alone; constants that stay float are as they were trained.
    """
    plan = quantized.plan()
    hub, _ = with_biases(quantized.hub, plan)
    planned = quantized.learned() | {layer.bias for layer in quantized.layers.values()}
    for name, parameter in quantized.graph.weights().items():
        if name not in planned:
            _write(hub, name, parameter.detach().cpu().numpy())
    for node in quantized.hub.nodes():
        layer = quantized.layers.get(str(node.name))
        if layer is not None:
            _write(hub, layer.weight.name, effective_weight(quantized.hub, plan, node, layer.weight.value))
    return hub, replace(plan, fingerprint=hub.fingerprint())


def _write(hub: Hub, name: str, array: np.ndarray) -> None:
    hub.value(name).const_value = ir.Tensor(np.array(array), name=name)
