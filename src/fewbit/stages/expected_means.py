"""Channel means without samples, from the batch normalizations that were folded: after one of them a channel has mean β and
standard deviation |γ| (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section
4.2.1). A Relu or Clip is taken to get normally distributed values, the operands of a sum to be independent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.normal import Normal, clipped
from fewbit.graph.edit import integers, is_op
from fewbit.graph.facts import clip_bounds
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.normals import remembered_normals


def expected_means(hub: Hub) -> dict[str, NDArray[np.float64]]:
    """Value name → mean of each channel (C,), as far as batch normalizations tell."""
    remembered = remembered_normals(hub)
    known = {name: normal for name, normal in remembered.items() if hub.value(name).producer() is None}
    for node in hub.nodes():
        for output in node.outputs:
            name = str(output.name)
            found = remembered.get(name) or _through(node, known)
            if found is not None:
                known[name] = found
    return {name: normal.mean for name, normal in known.items()}


def _through(node: ir.Node, known: Mapping[str, Normal]) -> Normal | None:
    """What a node makes of channels that are known, or None."""
    inputs = [known.get(str(value.name)) for value in node.inputs if value is not None]
    if not inputs or inputs[0] is None:
        return None
    bounds = clip_bounds(node)
    if bounds is not None:
        return clipped(inputs[0], *bounds)
    if is_op(node, "Add") and len(inputs) == 2 and inputs[1] is not None:
        if shape_of(node.inputs[0]) != shape_of(node.inputs[1]):
            return None
        return Normal(inputs[0].mean + inputs[1].mean, np.hypot(inputs[0].std, inputs[1].std))
    if is_op(node, "GlobalAveragePool", "Identity", "Dropout"):
        return inputs[0]
    if is_op(node, "AveragePool") and not any(integers(node, "pads", [0])):
        return inputs[0]
    if is_op(node, "Flatten", "Reshape", "Squeeze"):
        shape = shape_of(node.outputs[0])  # one number a channel, in a row
        return inputs[0] if shape is not None and len(shape) == 2 and shape[1] == inputs[0].mean.size else None
    return None
