"""The hub as a plan leaves its biases: corrected ones in the units of the float graph, and a place for one where none was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.facts import set_bias
from fewbit.graph.hub import Hub
from fewbit.plan.balanced import effective_bias
from fewbit.plan.plan import Plan
from fewbit.plan.wiring import node_bias


def with_biases(hub: Hub, plan: Plan) -> tuple[Hub, dict[str, str]]:
    """A copy of the hub in which every node of the plan that can have a constant bias has one of its own.

    Returns the copy, and node → the name of its bias. Biases are those of the plan, undivided by balance factors; nodes
    without one get zeros. What other nodes read of a shared constant stays as it was.
    """
    copy = hub.clone()
    names: dict[str, str] = {}
    for node in copy.nodes():
        decision = plan.nodes.get(str(node.name))
        bias = None if decision is None or decision.weight is None else node_bias(copy, node)
        if bias is None:
            continue
        given = effective_bias(plan, node)
        value = _constant(copy, f"{node.name}_bias", np.asarray(bias if given is None else given, np.float32))
        set_bias(node, value)
        names[str(node.name)] = str(value.name)
    return copy, names


def accumulator_bias(bias: NDArray[np.floating], scale: NDArray[np.float32]) -> NDArray[np.int32]:
    """The integers of a bias at the scale of the sums that it is added to."""
    limit = np.float64(2**31 - 1)
    return np.clip(np.rint(bias.astype(np.float64) / scale), -limit, limit).astype(np.int32)


def _constant(hub: Hub, name: str, array: NDArray[np.float32]) -> ir.Value:
    tensor = ir.tensor(array, name=hub.fresh_name(name))
    value = ir.Value(
        name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    hub.graph.register_initializer(value)
    return value
