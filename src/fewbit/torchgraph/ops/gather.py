"""Looking up and putting down numbers by index. Negative indices count from the end everywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.node import Host, Node, Row


def _positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(node: Node, x: Tensor, indices: Tensor | Host) -> Tensor:
    axis = node["axis"] % x.dim()
    if isinstance(indices, np.ndarray):
        if indices.ndim == 0:
            return x.select(axis, int(indices))
        indices = to_tensor(indices % x.shape[axis]).to(x.device)
    else:
        indices = _positive(indices, x.shape[axis])
    if axis == 0 and x.dim() == 2 and x.is_floating_point():
        return torch.nn.functional.embedding(indices, x)
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node["axis"]
    return torch.gather(x, axis, _positive(indices, x.shape[axis]))


def _gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    batch, depth = node.get("batch_dims", 0), indices.shape[-1]
    places = [_positive(indices[..., i], x.shape[batch + i]) for i in range(depth)]
    for axis in range(batch):
        size = [1] * places[0].dim()
        size[axis] = -1
        places.insert(axis, torch.arange(x.shape[axis], device=x.device).reshape(size))
    return x[tuple(places)]


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = node["axis"]
    places = _positive(indices, x.shape[axis])
    reduction = node.get("reduction", "none")
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCE[reduction], include_self=True)


def _scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Places are numbered in the flattened leading axes, so that one call puts down whole rows."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.long, device=x.device)
    for i in range(depth):
        flat = flat * x.shape[i] + _positive(indices[..., i], x.shape[i])
    rows = x.reshape(-1, *x.shape[depth:])
    places, news = flat.reshape(-1), updates.reshape(-1, *x.shape[depth:])
    reduction = node.get("reduction", "none")
    if reduction == "none":
        return rows.index_copy(0, places, news).reshape(x.shape)
    shape = [-1] + [1] * (news.dim() - 1)
    places = places.reshape(shape).expand_as(news)
    return rows.scatter_reduce(0, places, news, _REDUCE[reduction], include_self=True).reshape(x.shape)


def _one_hot(node: Node, indices: Tensor, depth: Host, values: Tensor) -> Tensor:
    """Indices outside [-depth, depth) give a row of the first value alone."""
    count, axis = int(depth.item()), node["axis"] % (indices.dim() + 1)
    places = torch.where(indices < 0, indices + count, indices).long().unsqueeze(axis)
    shape = [1] * (indices.dim() + 1)
    shape[axis] = count
    hit = places == torch.arange(count, device=indices.device).reshape(shape)
    return torch.where(hit, values[1], values[0])


def _compress(node: Node, x: Tensor, condition: Tensor) -> Tensor:
    axis = node.get("axis")
    x = x.reshape(-1) if axis is None else x
    return x.index_select(axis or 0, torch.nonzero(condition).reshape(-1))


def _reverse_sequence(node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    time, batch = node["time_axis"], node["batch_axis"]
    moved = x.movedim((time, batch), (0, 1))
    steps = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    lengths = lengths.unsqueeze(0)
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return moved[places, torch.arange(moved.shape[1], device=x.device)].movedim((0, 1), (time, batch))


def _unique(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """(values, index of the first of each, place of each element, counts), sorted or in the order of first appearance."""
    axis = node.get("axis")
    values, inverse, counts = torch.unique(x, True, True, True, dim=axis)
    inverse = inverse.reshape(-1)
    total = inverse.numel()
    positions = torch.arange(total, device=x.device)
    first = torch.full_like(counts, total).scatter_reduce(0, inverse, positions, "amin")
    if not node["sorted"]:
        order = torch.argsort(first)
        values, first, counts = values.index_select(axis or 0, order), first[order], counts[order]
        inverse = torch.argsort(order)[inverse]
    return values, first, inverse, counts


def _tensor_scatter(node: Node, cache: Tensor, update: Tensor, write: Tensor | None = None) -> Tensor:
    """Writes an update into each sample's cache, from its own position along `axis` on; `circular` wraps around."""
    axis = node["axis"] % cache.dim()
    length, size = update.shape[axis], cache.shape[axis]
    start = torch.zeros(cache.shape[0], dtype=torch.long, device=cache.device) if write is None else write.long()
    places = start.unsqueeze(1) + torch.arange(length, device=cache.device)
    if node["mode"] == "circular":
        places = places % size
    shape = [1] * cache.dim()
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand_as(update), update)


ROWS: dict[str, Row] = {
    "Gather": Row(_gather, either=(1,)),
    "GatherElements": Row(_gather_elements),
    "GatherND": Row(_gather_nd),
    "ScatterElements": Row(_scatter_elements),
    "Scatter": Row(_scatter_elements),
    "ScatterND": Row(_scatter_nd),
    "OneHot": Row(_one_hot, host=(1,)),
    "Compress": Row(_compress),
    "ReverseSequence": Row(_reverse_sequence),
    "Unique": Row(_unique),
    "TensorScatter": Row(_tensor_scatter),
}
