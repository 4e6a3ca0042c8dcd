"""What batch normalizations remember of the data that a network was trained on, whether they were folded or are still there.

After one of them a channel has mean β and standard deviation |γ| on that data, before it the running mean and deviation
(Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1).
"""

from __future__ import annotations

import numpy as np

from fewbit.core.normal import Normal
from fewbit.graph.edit import integer, is_op
from fewbit.graph.hub import Hub


def remembered_normals(hub: Hub) -> dict[str, Normal]:
    """Value name → mean and standard deviation of its channels (axis 1), for every value of which one is remembered."""
    there = {str(value.name) for value in hub.values()}
    found = {name: normal for name, normal in hub.normals.items() if name in there}
    for node in hub.nodes():
        if not is_op(node, "BatchNormalization") or integer(node, "training_mode", 0):
            continue
        gain, shift = (hub.constant(node.inputs[i]) for i in (1, 2))
        if gain is not None and shift is not None:
            mean, std = (np.asarray(array, np.float64).reshape(-1) for array in (shift, gain))
            found[str(node.outputs[0].name)] = Normal(mean, np.abs(std))
    return found
