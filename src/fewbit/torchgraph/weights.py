"""Which constants of a hub are weights, in the sense that training changes them."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import Hub, all_graphs
from fewbit.graph.ops import bias_of, category_of, recurrent_weights, weight_of

_SCALE_AND_BIAS = (1, 2)  # of normalizations; the mean and variance of BatchNormalization are statistics
_RECURRENT_BIAS = 3


def weights_of(hub: Hub) -> set[str]:
    """Names of the weights and biases of heavy operators, the scales and biases of normalizations, and PRelu slopes.

    Constants of arithmetic (a mask, a table of positions that is added, the 0.5 of a Gelu) are none.
    """
    return {
        str(value.name)
        for graph in all_graphs(hub.model)
        for node in graph
        for value in _weights(node)
        if value is not None and value.const_value is not None and value.const_value.dtype.is_floating_point()
    }


def _weights(node: ir.Node) -> list[ir.Value | None]:
    if category_of(node) == "normalization":
        return [node.inputs[i] for i in _SCALE_AND_BIAS if i < len(node.inputs)]
    if node.op_type == "PRelu":
        return [node.inputs[1]]
    weight = weight_of(node)
    add = None if weight is None else bias_add(node)
    found = [None if weight is None else weight.value, bias_of(node)]
    found += [w.value for w in recurrent_weights(node)]
    found += [] if add is None else [add.inputs[bias_index(add, node)]]
    return found
