"""Convolutions, with any pads."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row
from fewbit.torchgraph.ops.indexing import torch_pads, window_pads

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def convolve(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, fill: float = 0) -> Tensor:
    """Conv of 1 to 3 spatial axes; pads that differ between the two ends of an axis are added before, with `fill`."""
    rank = x.dim() - 2
    pads = window_pads(node, x.shape[2:], weight.shape[2:])
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    if pads[:rank] == pads[rank:] and fill == 0:
        return _CONV[rank](x, weight, bias, strides, pads[:rank], dilations, node["group"])
    x = functional.pad(x, torch_pads(pads), value=fill)
    return _CONV[rank](x, weight, bias, strides, 0, dilations, node["group"])


def _conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Pads crop the full output; where they differ or are larger than torch takes, they are cropped afterwards."""
    rank = x.dim() - 2
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    extra = list(node.get("output_padding") or [0] * rank)
    full = [
        stride * (size - 1) + (k - 1) * dilation + 1
        for size, k, stride, dilation in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True)
    ]
    pads = _transposed_pads(node, x.shape[2:], full, extra, strides)
    if pads[:rank] == pads[rank:] and min(pads) >= 0 and _fits(extra, strides, dilations):
        return _TRANSPOSED[rank](x, weight, bias, strides, pads[:rank], extra, node["group"], dilations)
    y = _TRANSPOSED[rank](x, weight, bias, strides, 0, 0, node["group"], dilations)
    more = [-p + (extra[i - rank] if i >= rank else 0) for i, p in enumerate(pads)]
    if max(more) > 0 and bias is not None:
        # what lies beyond the last window is the bias alone
        bare = bias.reshape(-1, *[1] * rank)
        return functional.pad(y - bare, torch_pads(more)) + bare
    return functional.pad(y, torch_pads(more))


def _fits(extra: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> bool:
    """torch wants output_padding smaller than the stride or the dilation."""
    return all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))


def _transposed_pads(
    node: Node, sizes: Sequence[int], full: Sequence[int], extra: Sequence[int], strides: Sequence[int]
) -> list[int]:
    """Pads (begins, then ends), from `output_shape` or `auto_pad` where those decide."""
    rank = len(sizes)
    wanted = node.get("output_shape")
    if wanted:
        wanted = wanted[-rank:]
    elif node["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    elif node["auto_pad"] == "VALID":
        return [0] * 2 * rank
    else:
        return list(node.get("pads") or [0] * 2 * rank)
    total = [f + e - w for f, e, w in zip(full, extra, wanted, strict=True)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*small, *large] if node["auto_pad"] == "SAME_UPPER" else [*large, *small]


ROWS: dict[str, Row] = {
    "Conv": Row(convolve),
    "ConvTranspose": Row(_conv_transpose),
}
