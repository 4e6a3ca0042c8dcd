"""Sampling of images at computed places, and the choice of boxes."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Host, Node, Row

_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}  # names of opset 20; those of opset 16 are torch's


def _grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    mode = _GRID_MODES.get(node["mode"], node["mode"])
    return functional.grid_sample(x, grid, mode, node["padding_mode"], bool(node["align_corners"]))


def _sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x (N, C, H, W) at the pixels (rows, columns), each (N, A, B), between pixels linearly, zero outside: (N, C, A, B)."""
    height, width = x.shape[2:]
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], -1)
    return functional.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)


def _deform_conv(
    node: Node, x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """A convolution whose taps are moved by `offset` and weighed by `mask` (Zhu et al. 2019, "Deformable ConvNets v2").

    x: (N, C, H, W); offset: (N, groups · kH · kW · 2, H', W'), rows before columns; mask: the same without the 2.
    """
    n, channels = x.shape[:2]
    kernel, (high, wide) = list(w.shape[2:]), offset.shape[2:]
    taps, groups = math.prod(kernel), node["offset_group"]
    strides, dilations = node.get("strides") or [1, 1], node.get("dilations") or [1, 1]
    pads = node.get("pads") or [0, 0, 0, 0]
    moved = offset.reshape(n * groups, taps, 2, high, wide)
    places = []
    for axis, (size, shape) in enumerate(((high, (1, -1, 1)), (wide, (1, 1, -1)))):
        tap = torch.arange(kernel[axis], device=x.device) * dilations[axis]
        grid = [tap if axis == i else torch.zeros_like(tap[:1]).expand(kernel[i]) for i in range(2)]
        tap = (grid[0].unsqueeze(1) + grid[1].unsqueeze(0)).reshape(-1, 1, 1)
        start = (torch.arange(size, device=x.device) * strides[axis] - pads[axis]).reshape(shape)
        places.append((tap + start + moved[:, :, axis]).reshape(n * groups, taps * high, wide))
    columns = _sample(x.reshape(n * groups, channels // groups, *x.shape[2:]), places[0], places[1])
    columns = columns.reshape(n, groups, channels // groups, taps, high, wide)
    if mask is not None:
        columns = columns * mask.reshape(n, groups, 1, taps, high, wide)
    split = node["group"]
    columns = columns.reshape(n, split, channels // split * taps, high * wide)
    y = torch.matmul(w.reshape(split, w.shape[0] // split, -1), columns).reshape(n, -1, high, wide)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def _roi_align(node: Node, x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
    """He et al. 2017, "Mask R-CNN": bins of each region, the mean or the largest of samples in each.

    With mode `max` the largest of the four weighed neighbours of a sample counts, as in ONNX's definition and ONNX Runtime.
    """
    half = 0.5 if node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel" else 0.0
    boxes = rois * node["spatial_scale"] - half
    bins = (node["output_height"], node["output_width"])
    return torch.stack([_roi(node, x[int(i)], box, bins, half > 0) for box, i in zip(boxes, batch, strict=True)])


def _roi(node: Node, image: Tensor, box: Tensor, bins: tuple[int, int], exact: bool) -> Tensor:
    weights, indices = [], []
    for axis, (begin, end) in enumerate(((box[1], box[3]), (box[0], box[2]))):
        length = end - begin if exact else (end - begin).clamp(min=1.0)
        samples = node["sampling_ratio"] or max(1, math.ceil(float(length) / bins[axis]))
        steps = (torch.arange(bins[axis] * samples, device=image.device) + 0.5) / samples
        places, size = begin + steps * length / bins[axis], image.shape[1 + axis]
        inside = (places >= -1) & (places <= size)
        places = places.clamp(0, size - 1)
        low = places.floor().clamp(max=max(size - 2, 0))
        part = places - low
        weights.append(torch.stack([1 - part, part]) * inside)
        indices.append(torch.stack([low, (low + 1).clamp(max=size - 1)]).long())
    rows, columns = indices
    corners = image[:, rows[:, None, :, None], columns[None, :, None, :]]
    corners = corners * weights[0][:, None, :, None] * weights[1][None, :, None, :]
    by_bin = (-1, 4, bins[0], len(rows[0]) // bins[0], bins[1], len(columns[0]) // bins[1])
    if node["mode"] == "max":
        return corners.reshape(by_bin).amax((1, 3, 5))
    return corners.reshape(by_bin).sum(1).mean((2, 4))


def _non_max_suppression(
    node: Node,
    boxes: Host,
    scores: Host,
    most: Host | None = None,
    iou: Host | None = None,
    least: Host | None = None,
) -> Host:
    """(picked, 3): image, class, box. Per image and class the best box, then each that overlaps no picked one by more."""
    limit = 0 if most is None else int(most.item())
    overlap = 0.0 if iou is None else float(iou.item())
    corners = _corners(boxes, bool(node["center_point_box"]))
    picked = [
        (image, label, box)
        for image in range(scores.shape[0])
        for label in range(scores.shape[1])
        for box in _suppress(corners[image], scores[image, label], overlap, least)[:limit]
    ]
    return np.asarray(picked, np.int64).reshape(-1, 3)


def _corners(boxes: Host, centred: bool) -> NDArray[np.float32]:
    """(y1, x1, y2, x2), lower first, from corners in any order or from (x, y, width, height) of centres."""
    if centred:
        x, y, width, height = np.moveaxis(boxes, -1, 0)
        return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _suppress(boxes: NDArray[np.float32], scores: Host, overlap: float, least: Host | None) -> list[int]:
    left = np.argsort(-scores.astype(np.float64), kind="stable")
    if least is not None:
        left = left[scores[left] > least.item()]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], -1)
    picked = []
    while left.size:
        best, left = left[0], left[1:]
        picked.append(int(best))
        shared = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        common = np.prod(np.clip(shared, 0, None), -1)
        union = areas[best] + areas[left] - common
        left = left[~((union > 0) & (common > overlap * union))]
    return picked


ROWS: dict[str, Row] = {
    "GridSample": Row(_grid_sample),
    "DeformConv": Row(_deform_conv),
    "RoiAlign": Row(_roi_align),
    "NonMaxSuppression": Row(_non_max_suppression, host=(-1,)),
}
