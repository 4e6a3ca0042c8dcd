"""Parts of transformers as ONNX Runtime's own operators."""

from __future__ import annotations

import torch
from torch import Tensor

from fewbit.torchgraph.node import Node, Row


def _rotary_embedding(node: Node, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs of numbers by an angle of their position (Su et al. 2021, "RoFormer", equation 34).

    x: (batch, length, hidden) or (batch, heads, length, size); cos, sin: (positions, size / 2); positions: (batch, length),
    or one number, that of the first step. Pairs are neighbours when `interleaved`, else halves apart.
    """
    heads, size = node.get("num_heads", 0), node.get("rotary_embedding_dim", 0) or 2 * cos.shape[-1]
    width = x.shape[-1] // heads if heads and x.dim() == 3 else 2 * cos.shape[-1] if x.dim() == 3 else x.shape[-1]
    y = x.unflatten(-1, (-1, width)).transpose(1, 2) if x.dim() == 3 else x
    if positions.numel() == 1:
        positions = positions.reshape(1, 1) + torch.arange(y.shape[2], device=x.device)
    c, s = (table[positions].unsqueeze(1) for table in (cos, sin))
    turned, rest = y[..., :size], y[..., size:]
    if node.get("interleaved", 0):
        first, second = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([first * c - second * s, first * s + second * c], -1).flatten(-2)
    else:
        first, second = turned.chunk(2, -1)
        turned = torch.cat([first * c - second * s, first * s + second * c], -1)
    y = torch.cat([turned, rest], -1)
    return y.transpose(1, 2).flatten(-2) if x.dim() == 3 else y


ROWS: dict[str, Row] = {"com.microsoft.RotaryEmbedding": Row(_rotary_embedding)}
