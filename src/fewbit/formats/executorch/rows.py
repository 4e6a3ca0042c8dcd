"""What the export adds to the torch executor: quantizers that XNNPACK knows, layers with static weights, and Relu6.

Operators of the domain `fewbit.executorch` are made by `fewbit.formats.executorch.spell`:

    Quantize(x)                     int8 by one scale: attributes scale, zero_point
    Dequantize(q)                   back
    DequantizeWeight(q, scale, zero_point)    by one scale an index of `axis`, or with `group` one a group of its inputs
    Linear(x, weight, bias?)        x (..., I), weight (O, I)
    DynamicLinear(x, weight, bias?) the same, with x quantized to int8 by a scale and zero point a row, found at every run
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.ao.quantization.fx import _decomposed  # noqa: F401  (registers the operators)
from torch.nn import functional

from fewbit.torchgraph.node import Host, Node, Row, Value
from fewbit.torchgraph.ops import ROWS as TORCH_ROWS
from fewbit.torchgraph.ops.indexing import split_sizes

DOMAIN = "fewbit.executorch"
LOW, HIGH = -128, 127

_ROOT = math.sqrt(2 / math.pi)

_QUANTIZED: Any = torch.ops.quantized_decomposed


def _quantize(node: Node, x: Tensor) -> Tensor:
    return _QUANTIZED.quantize_per_tensor(x, node["scale"], node["zero_point"], LOW, HIGH, torch.int8)


def _dequantize(node: Node, q: Tensor) -> Tensor:
    return _QUANTIZED.dequantize_per_tensor(q, node["scale"], node["zero_point"], LOW, HIGH, torch.int8)


def _dequantize_weight(node: Node, q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The range that is named says to XNNPACK how many bits it may store."""
    bits = node["bits"]
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if node.get("group", 0):
        return _QUANTIZED.dequantize_per_channel_group(
            q, scale, zero_point, low, high, torch.int8, node["group"], torch.float32
        )
    return _QUANTIZED.dequantize_per_channel(q, scale, zero_point, node["axis"], low, high, torch.int8)


def _linear(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return functional.linear(x, weight, bias)


def _dynamic_linear(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    scale, zero_point = _QUANTIZED.choose_qparams_per_token_asymmetric(x, torch.int8)
    parameters = (scale, zero_point, LOW, HIGH, torch.int8)
    q = _QUANTIZED.quantize_per_token(x, *parameters)
    return functional.linear(_QUANTIZED.dequantize_per_token(q, *parameters, torch.float32), weight, bias)


def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Products of stacks of matrices of the same sizes as `bmm`, without what torch does to broadcast them."""
    if a.dim() < 3 or a.shape[:-2] != b.shape[:-2] or not a.is_floating_point():
        return TORCH_ROWS["MatMul"].run(node, a, b)
    product = torch.bmm(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]))
    return product.reshape(*a.shape[:-1], b.shape[-1])


def _reshaped(node: Node, x: Tensor, *axes: Host) -> Tensor:
    """Squeeze and Unsqueeze as the reshape that they are, which XNNPACK has for any number of axes."""
    return x.reshape(TORCH_ROWS[node.op].run(node, x, *axes).shape)


def _split(node: Node, x: Tensor, sizes: Host | None = None) -> tuple[Tensor, ...]:
    """Slices, which XNNPACK has, in place of a split, which it has not."""
    parts = split_sizes(node, x.shape, sizes)
    return tuple(x.narrow(node["axis"], end - size, size) for size, end in zip(parts, accumulate(parts), strict=True))


def _gelu(node: Node, x: Tensor) -> Tensor:
    """The form with tanh is spelled out: XNNPACK computes the exact function for both."""
    if node["approximate"] != "tanh":
        return functional.gelu(x)
    return (
        0.5 * x * (1 + torch.tanh(_ROOT * (x + 0.044715 * x * x * x)))
    )  # the constant is of the operator's definition


def _clip(node: Node, x: Tensor, low: Value = None, high: Value = None) -> Tensor:
    """Two constant bounds as hardtanh, and 0 alone as relu: the forms that XNNPACK's partitioner fuses into a product."""
    bounds: list[Any] = [low, high]
    if high is None and isinstance(low, np.ndarray) and low.item() == 0:
        return torch.relu(x)
    if x.is_floating_point() and not any(b is None or isinstance(b, Tensor) for b in bounds):
        return functional.hardtanh(x, float(bounds[0].item()), float(bounds[1].item()))
    return TORCH_ROWS["Clip"].run(node, x, low, high)


ROWS: dict[str, Row] = {
    f"{DOMAIN}.Quantize": Row(_quantize),
    f"{DOMAIN}.Dequantize": Row(_dequantize),
    f"{DOMAIN}.DequantizeWeight": Row(_dequantize_weight),
    f"{DOMAIN}.Linear": Row(_linear),
    f"{DOMAIN}.DynamicLinear": Row(_dynamic_linear),
    "MatMul": Row(_matmul),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), Row(_reshaped, host=(1,))),
    "Split": Row(_split, host=(1,)),
    "Gelu": Row(_gelu),
    "Clip": Row(_clip, either=(1, 2)),
}
