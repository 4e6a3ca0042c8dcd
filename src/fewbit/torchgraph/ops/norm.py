"""Normalizations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row, Value


def _channels(x: Tensor, vector: Tensor) -> Tensor:
    """A vector of one number a channel, shaped to go with x (N, C, ...)."""
    return vector.reshape(1, -1, *[1] * (x.dim() - 2))


def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, ...]:
    """With `training_mode` the statistics are those of the batch, and the running ones move towards them."""
    if not node.get("training_mode", 0):
        return (functional.batch_norm(x, mean, var, scale, bias, False, 0.0, node["epsilon"]),)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    own_mean, own_var = x.mean(axes), x.var(axes, correction=0)
    y = functional.batch_norm(x, own_mean, own_var, scale, bias, False, 0.0, node["epsilon"])
    keep = node["momentum"]
    return y, mean * keep + own_mean * (1 - keep), var * keep + own_var * (1 - keep)


def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node["epsilon"])


def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
    """Over the axes from `axis` on, computed in float32 where the input has less (`stash_type`)."""
    axis = node["axis"] % x.dim()
    shape = tuple(x.shape[axis:])
    if not any(node.wanted[1:]) and scale.shape == shape and (bias is None or bias.shape == shape):
        return functional.layer_norm(x, shape, scale, bias, node["epsilon"])
    axes = tuple(range(axis, x.dim()))
    wide = x if x.dtype == torch.float64 else x.float()
    mean = wide.mean(axes, keepdim=True)
    inverse = torch.rsqrt(wide.var(axes, correction=0, keepdim=True) + node["epsilon"])
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return y if bias is None else y + bias, mean, inverse


def _rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = tuple(range(node.get("axis", -1) % x.dim(), x.dim()))
    wide = x if x.dtype == torch.float64 else x.float()
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + node["epsilon"])
    return (wide * inverse).to(x.dtype) * scale


def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias have one number a channel from opset 21 on, one a group before."""
    groups = node["num_groups"]
    if scale.numel() == groups != x.shape[1]:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, node["epsilon"])


def _lrn(node: Node, x: Tensor) -> Tensor:
    """y = x / (bias + alpha / size · Σ x²)^beta over `size` channels, of which the smaller half lies before."""
    size = node["size"]
    squares = x.square().reshape(x.shape[0], 1, x.shape[1], -1)
    padded = functional.pad(squares, (0, 0, (size - 1) // 2, size // 2))
    sums = functional.avg_pool2d(padded, (size, 1), stride=1).reshape(x.shape)
    return x / (node["bias"] + node["alpha"] * sums) ** node["beta"]


def _lp_norm(node: Node, x: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(x, node["p"], node["axis"], keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def _mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = node["axes"]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + _MVN_EPSILON)


_MVN_EPSILON = 1e-9  # of the operator's definition


def _skip_norm(
    node: Node, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Value, ...]:
    total = x + skip if bias is None else x + skip + bias
    y = functional.layer_norm(total, gamma.shape, gamma, beta, node["epsilon"])
    return y, None, None, total


def _skip_rms_norm(node: Node, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None) -> tuple[Value, ...]:
    total = x + skip if bias is None else x + skip + bias
    return _rms_norm(node, total, gamma), None, None, total


ROWS: dict[str, Row] = {
    "BatchNormalization": Row(_batch_norm),
    "InstanceNormalization": Row(_instance_norm),
    "LayerNormalization": Row(_layer_norm),
    "RMSNormalization": Row(_rms_norm),
    "SimplifiedLayerNormalization": Row(_rms_norm),
    "GroupNormalization": Row(_group_norm),
    "LRN": Row(_lrn),
    "LpNormalization": Row(_lp_norm),
    "MeanVarianceNormalization": Row(_mean_variance_norm),
    "com.microsoft.SkipLayerNormalization": Row(_skip_norm),
    "com.microsoft.SkipSimplifiedLayerNormalization": Row(_skip_rms_norm),
}
