"""The geometry of a convolution."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.core.weights.rows import Window
from fewbit.graph.edit import integers, text
from fewbit.graph.hub import Hub


def convolution_window(hub: Hub, node: ir.Node) -> Window | None:
    """Kernel, strides, dilations and pads of a Conv; None where padding by SAME needs a size that is not known."""
    weight = hub.shape(node.inputs[1])
    kernel = [n for n in (weight or ())[2:] if isinstance(n, int)]
    count = len(kernel)
    if not count:
        return None
    strides, dilations = integers(node, "strides", [1] * count), integers(node, "dilations", [1] * count)
    flat, mode = integers(node, "pads", [0] * 2 * count), text(node, "auto_pad", "NOTSET")
    pads = [(flat[axis], flat[axis + count]) for axis in range(count)]
    if mode == "VALID":
        pads = [(0, 0)] * count
    elif mode.startswith("SAME"):
        sizes = (hub.shape(node.inputs[0]) or ())[2:]
        if len(sizes) != count:
            return None
        for axis, size in enumerate(sizes):
            if not isinstance(size, int):
                return None
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
            small, large = total // 2, total - total // 2
            pads[axis] = (small, large) if mode == "SAME_UPPER" else (large, small)
    return Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(pads))
