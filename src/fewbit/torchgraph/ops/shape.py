"""Operators that move numbers without looking at them, and those that make shapes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fewbit.errors import ModelError
from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.node import Host, Node, Row, plain
from fewbit.torchgraph.ops.indexing import given_axes, reshape_sizes, slices, split_sizes, torch_pads


def _reshape(node: Node, x: Tensor, shape: Host) -> Tensor:
    return x.reshape(reshape_sizes(node, x.shape, shape))


def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node["axis"] + (x.dim() if node["axis"] < 0 else 0)
    rows = int(np.prod(x.shape[:axis]))
    return x.reshape(rows, int(np.prod(x.shape[axis:])))


def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or list(reversed(range(x.dim()))))


def _squeeze(node: Node, x: Tensor, axes: Host | None = None) -> Tensor:
    chosen = given_axes(node, axes)
    if chosen is None:
        return x.squeeze()
    long = [axis for axis in chosen if x.shape[axis] != 1]
    if long:
        raise ValueError(f"axes {long} cannot be squeezed, they are longer than 1")
    return x.squeeze(tuple(chosen))


def _unsqueeze(node: Node, x: Tensor, axes: Host) -> Tensor:
    rank = x.dim() + axes.size
    for axis in sorted(axis % rank for axis in axes.reshape(-1).tolist()):
        x = x.unsqueeze(axis)
    return x


def _slice(node: Node, x: Tensor, *bounds: Host | None) -> Tensor:
    found = slices(x.shape, *bounds)
    for axis, part in enumerate(found):
        if part.step is not None and part.step < 0:  # torch has no negative steps
            indices = torch.arange(x.shape[axis], device=x.device).cpu().numpy()[part]
            x = x.index_select(axis, torch.from_numpy(indices.copy()).to(x.device))
    return x[tuple(slice(None) if p.step is not None and p.step < 0 else p for p in found)]


def _split(node: Node, x: Tensor, sizes: Host | None = None) -> tuple[Tensor, ...]:
    return torch.split(x, split_sizes(node, x.shape, sizes), node["axis"])


def _expand(node: Node, x: Tensor, shape: Host) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _tile(node: Node, x: Tensor, repeats: Host) -> Tensor:
    return x.repeat(repeats.tolist())


def _depth_to_space(node: Node, x: Tensor) -> Tensor:
    block = node["blocksize"]
    n, c, h, w = x.shape
    if node["mode"] == "CRD":
        return functional.pixel_shuffle(x, block)
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(node: Node, x: Tensor) -> Tensor:
    block = node["blocksize"]
    n, c, h, w = x.shape
    order = (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    x = x.reshape(n, c, h // block, block, w // block, block).permute(order)
    return x.reshape(n, c * block**2, h // block, w // block)


def _shape(node: Node, x: Tensor | Host) -> Host:
    return np.asarray(x.shape[node.get("start", 0) : node.get("end")], np.int64)


def _size(node: Node, x: Tensor | Host) -> Host:
    return np.asarray(np.prod(x.shape, dtype=np.int64))


def _range(node: Node, start: Tensor, stop: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), stop.item(), step.item(), dtype=start.dtype, device=start.device)


def _constant_of_shape(node: Node, shape: Host) -> Tensor:
    value = to_tensor(node.get("value", np.zeros(1, np.float32)))
    return value.reshape(()).expand(shape.tolist())


def _dropout(node: Node, x: Tensor, ratio: Host | None = None, training: Host | None = None) -> tuple[Tensor, Tensor]:
    if training is not None and training.item() and (ratio is None or ratio.item() > 0):
        raise ModelError(f"{node} drops numbers at random, as in training; export the model for inference")
    return x, torch.ones_like(x, dtype=torch.bool)


def _eye_like(node: Node, x: Tensor) -> Tensor:
    ones = torch.ones(x.shape, dtype=node.dtype("dtype") if "dtype" in node.attributes else x.dtype, device=x.device)
    k = node["k"]
    return torch.triu(torch.tril(ones, k), k)


def _trilu(node: Node, x: Tensor, k: Host | None = None) -> Tensor:
    return (torch.triu if node["upper"] else torch.tril)(x, 0 if k is None else int(k.item()))


def _pad(node: Node, x: Tensor, pads: Host, value: Host | None = None, axes: Host | None = None) -> Tensor:
    """Modes constant, reflect (without the edge), edge and wrap. Negative pads crop."""
    rank = x.dim()
    chosen = range(rank) if axes is None else [axis % rank for axis in axes.tolist()]
    begins, ends = [0] * rank, [0] * rank
    for index, axis in enumerate(chosen):
        begins[axis], ends[axis] = pads.tolist()[index], pads.tolist()[index + len(chosen)]
    if node["mode"] == "constant":
        fill = 0 if value is None else value.item()
        return functional.pad(x, torch_pads([*begins, *ends]), value=fill)
    for axis in range(rank):
        if begins[axis] or ends[axis]:
            indices = _padded_indices(x.shape[axis], begins[axis], ends[axis], node["mode"])
            x = x.index_select(axis, torch.from_numpy(indices).to(x.device))
    return x


def _padded_indices(size: int, begin: int, end: int, mode: str) -> Host:
    positions = np.arange(-begin, size + end)
    if mode == "edge":
        return np.clip(positions, 0, size - 1)
    if mode == "wrap":
        return positions % size
    period = max(2 * (size - 1), 1)
    folded = positions % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(positions)


def _center_crop_pad(node: Node, x: Tensor, shape: Host) -> Tensor:
    axes = node.get("axes") or range(x.dim())
    begins, ends = [0] * x.dim(), [0] * x.dim()
    for axis, size in zip(axes, shape.tolist(), strict=True):
        more = size - x.shape[axis]
        begins[axis] = more // 2 if more > 0 else -(-more // 2)
        ends[axis] = more - begins[axis]
    return functional.pad(x, torch_pads([*begins, *ends]))


def _concat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node["axis"])


def _bit_cast(node: Node, x: Tensor) -> Tensor:
    return x.view(node.dtype("to"))


def _col2im(node: Node, x: Tensor, image: Host, block: Host) -> Tensor:
    """Sums the columns at their places, for any number of axes: each offset in the block is added in one go."""
    sizes, kernel = image.tolist(), block.tolist()
    rank = len(sizes)
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    pads = node.get("pads") or [0] * 2 * rank
    padded = [size + pads[i] + pads[i + rank] for i, size in enumerate(sizes)]
    counts = [(p - d * (k - 1) - 1) // s + 1 for p, k, s, d in zip(padded, kernel, strides, dilations, strict=True)]
    columns = x.reshape(x.shape[0], -1, *kernel, *counts)
    result = x.new_zeros((x.shape[0], columns.shape[1], *padded))
    for offset in np.ndindex(*kernel):
        place = [
            slice(o * d, o * d + (c - 1) * s + 1, s)
            for o, d, c, s in zip(offset, dilations, counts, strides, strict=True)
        ]
        result[(slice(None), slice(None), *place)] += columns[(slice(None), slice(None), *offset)]
    return result[(slice(None), slice(None), *(slice(b, b + s) for b, s in zip(pads[:rank], sizes, strict=True)))]


ROWS: dict[str, Row] = {
    "Identity": Row(lambda node, x: x, either=(0,), widen=False),
    "Reshape": Row(_reshape, host=(1,)),
    "Flatten": Row(_flatten),
    "Transpose": Row(_transpose),
    "Squeeze": Row(_squeeze, host=(1,)),
    "Unsqueeze": Row(_unsqueeze, host=(1,)),
    "Slice": Row(_slice, host=(1, 2, 3, 4)),
    "Split": Row(_split, host=(1,)),
    "Concat": Row(_concat),
    "Expand": Row(_expand, host=(1,)),
    "Tile": Row(_tile, host=(1,)),
    "DepthToSpace": Row(_depth_to_space),
    "SpaceToDepth": Row(_space_to_depth),
    "Shape": Row(_shape, either=(0,)),
    "Size": Row(_size, either=(0,)),
    "Range": Row(_range),
    "ConstantOfShape": Row(_constant_of_shape, host=(0,)),
    "Dropout": Row(_dropout, host=(1, 2)),
    "EyeLike": Row(_eye_like),
    "Trilu": Row(_trilu, host=(1,)),
    "Pad": Row(_pad, host=(1, 2, 3)),
    "CenterCropPad": Row(_center_crop_pad, host=(1,)),
    "BitCast": Row(_bit_cast, widen=False),
    "Col2Im": Row(_col2im, host=(1, 2)),
    "NonZero": plain(lambda x: torch.nonzero(x).t()),
}
