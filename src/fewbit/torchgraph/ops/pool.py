"""Pooling, with any pads, dilations and ceil_mode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row, plain
from fewbit.torchgraph.ops.indexing import torch_pads, window_pads

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class _Window:
    """The geometry of a pooling node on an input of certain sizes.

    pads: begins, then ends, with what `ceil_mode` adds at the end.
    """

    def __init__(self, node: Node, sizes: Sequence[int]) -> None:
        rank = len(sizes)
        self.kernel = list(node["kernel_shape"])
        self.strides = list(node.get("strides") or [1] * rank)
        self.dilations = list(node.get("dilations") or [1] * rank)
        self.given = window_pads(node, sizes, self.kernel)
        self.pads = list(self.given)
        for axis in range(rank):
            size = sizes[axis] + self.given[axis] + self.given[axis + rank]
            reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            steps = (size - reach) / self.strides[axis]
            last = math.ceil(steps) if node.get("ceil_mode", 0) else math.floor(steps)
            if last * self.strides[axis] >= sizes[axis] + self.given[axis]:
                last -= 1  # a window that would begin in the padding at the end does not exist
            self.pads[axis + rank] += max(0, last * self.strides[axis] + reach - size)

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def is_plain(self) -> bool:
        """Whether torch's own pooling takes these pads."""
        begins, ends = self.pads[: self.rank], self.pads[self.rank :]
        return begins == ends and all(2 * p <= k for p, k in zip(begins, self.kernel, strict=True))


def _max_pool(node: Node, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    window = _Window(node, x.shape[2:])
    values = x if x.is_floating_point() else x.double()  # torch pools no integers; doubles hold those of 8 bits exactly
    pads = window.pads[: window.rank]
    if not window.is_plain:
        values, pads = functional.pad(values, torch_pads(window.pads), value=float("-inf")), [0] * window.rank
    pool = _MAX[window.rank]
    if not any(node.wanted[1:]):
        return pool(values, window.kernel, window.strides, pads, window.dilations).to(x.dtype)
    best, indices = pool(values, window.kernel, window.strides, pads, window.dilations, return_indices=True)
    return best.to(x.dtype), _places(node, indices, x.shape, window)


def _places(node: Node, indices: Tensor, shape: Sequence[int], window: _Window) -> Tensor:
    """Positions in the whole input tensor, from torch's in one padded channel; `storage_order` 1 counts column first."""
    sizes = list(shape[2:])
    begins = [0] * window.rank if window.is_plain else window.pads[: window.rank]
    padded = (
        sizes
        if window.is_plain
        else [size + window.pads[i] + window.pads[i + window.rank] for i, size in enumerate(sizes)]
    )
    axes = []
    for axis in reversed(range(window.rank)):
        axes.append(indices % padded[axis] - begins[axis])
        indices = indices // padded[axis]
    order = list(reversed(range(window.rank))) if node["storage_order"] else list(range(window.rank))
    flat = torch.zeros_like(indices)
    for axis in order:
        flat = flat * sizes[axis] + axes[window.rank - 1 - axis]
    channel = torch.arange(shape[0] * shape[1], device=indices.device).reshape(shape[0], shape[1], *[1] * window.rank)
    return flat + channel * int(np.prod(sizes))


def _average_pool(node: Node, x: Tensor) -> Tensor:
    window = _Window(node, x.shape[2:])
    include = bool(node["count_include_pad"])
    if window.is_plain and window.pads == window.given and set(window.dilations) == {1}:
        pads = window.pads[: window.rank]
        return _AVERAGE[window.rank](x, window.kernel, window.strides, pads, False, include)
    counted = torch.ones_like(x[:1, :1])
    if include:
        counted = functional.pad(counted, torch_pads(window.given), value=1)
        rest = [p - g for p, g in zip(window.pads, window.given, strict=True)]
        counted = functional.pad(counted, torch_pads(rest))
    else:
        counted = functional.pad(counted, torch_pads(window.pads))
    return _window_sums(functional.pad(x, torch_pads(window.pads)), window) / _window_sums(counted, window)


def _window_sums(x: Tensor, window: _Window) -> Tensor:
    ones = torch.ones(1, 1, *window.kernel, dtype=x.dtype, device=x.device)
    flat = x.reshape(-1, 1, *x.shape[2:])
    sums = _CONV[window.rank](flat, ones, None, window.strides, 0, window.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def _lp_pool(node: Node, x: Tensor) -> Tensor:
    window, p = _Window(node, x.shape[2:]), node["p"]
    return _window_sums(functional.pad(x.abs() ** p, torch_pads(window.pads)), window) ** (1 / p)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def _global_lp_pool(node: Node, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, node["p"], _spatial(x), keepdim=True)


def _max_unpool(node: Node, x: Tensor, indices: Tensor, shape: np.ndarray | None = None) -> Tensor:
    """Puts numbers back where MaxPool found them; its indices count through the tensor whose maxima were taken."""
    rank = x.dim() - 2
    kernel, strides, pads = node["kernel_shape"], node.get("strides") or [1] * rank, node.get("pads") or [0] * 2 * rank
    sizes = [(x.shape[i + 2] - 1) * strides[i] - pads[i] - pads[i + rank] + kernel[i] for i in range(rank)]
    small = [*x.shape[:2], *sizes]
    flat = x.new_zeros(int(np.prod(small))).scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(small)
    if shape is None:
        return flat
    more = [b - a for a, b in zip(small, shape.tolist(), strict=True)]
    return functional.pad(flat, torch_pads([*[0] * len(more), *more]))


ROWS: dict[str, Row] = {
    "MaxPool": Row(_max_pool),
    "AveragePool": Row(_average_pool),
    "LpPool": Row(_lp_pool),
    "GlobalAveragePool": plain(lambda x: x.mean(_spatial(x), keepdim=True)),
    "GlobalMaxPool": plain(lambda x: x.amax(_spatial(x), keepdim=True)),
    "GlobalLpPool": Row(_global_lp_pool),
    "MaxUnpool": Row(_max_unpool, host=(2,)),
}
