"""Resize in all its modes. Positions and factors are found on the host, one axis after the other (the modes separate)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.node import Host, Node, Row

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """How one axis is resized: from `size` numbers to `wanted`; `begin` and `end` are the region of tf_crop_and_resize."""

    axis: int
    size: int
    wanted: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    @property
    def changes(self) -> bool:
        return self.wanted != self.size or self.scale != 1 or (self.begin, self.end) != (0, 1)


def _resize(
    node: Node, x: Tensor, roi: Host | None = None, scales: Host | None = None, sizes: Host | None = None
) -> Tensor:
    axes = [a for a in _axes(node, x.shape, roi, scales, sizes) if a.changes]
    quick = _by_torch(node, x, axes)
    if quick is not None:
        return quick
    y = x if x.is_floating_point() else x.double()
    for axis in axes:
        y = _resize_axis(node, y, axis)
    return y.to(x.dtype)


def _axes(node: Node, shape: Sequence[int], roi: Host | None, scales: Host | None, sizes: Host | None) -> list[Axis]:
    chosen = [a % len(shape) for a in node.get("axes") or range(len(shape))]
    whole = [shape[a] for a in chosen]
    if sizes is not None and sizes.size:
        wanted = sizes.tolist()
        factors = [w / s for w, s in zip(wanted, whole, strict=True)]
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factors = [(min if policy == "not_larger" else max)(factors)] * len(chosen)
            wanted = [int(f * s + 0.5) for f, s in zip(factors, whole, strict=True)]
    elif scales is not None and scales.size:
        factors = scales.tolist()
        wanted = [int(f * s) for f, s in zip(factors, whole, strict=True)]
    else:
        raise ValueError("Resize needs scales or sizes")
    crop = node["coordinate_transformation_mode"] == "tf_crop_and_resize" and roi is not None
    begins, ends = np.split(roi, 2) if crop and roi is not None else (np.zeros(len(chosen)), np.ones(len(chosen)))
    return [Axis(*row) for row in zip(chosen, whole, wanted, factors, begins.tolist(), ends.tolist(), strict=True)]


def _by_torch(node: Node, x: Tensor, axes: Sequence[Axis]) -> Tensor | None:
    """What torch's own interpolation does the same way; None for the rest. Exporters know it as one operator."""
    if not (x.dim() == 4 and axes and all(a.axis >= 2 for a in axes)):
        return None
    size = [next((a.wanted for a in axes if a.axis == axis), x.shape[axis]) for axis in (2, 3)]
    mode, transform = node["mode"], node["coordinate_transformation_mode"]
    if mode == "nearest":
        if all((_nearest(node, a) == np.arange(a.wanted) * a.size // a.wanted).all() for a in axes):
            return functional.interpolate(x, size, mode="nearest")
        return None
    if mode != "linear" or node.get("antialias", 0) or node["exclude_outside"] or not x.is_floating_point():
        return None
    if not all(a.wanted == a.scale * a.size and a.wanted > 1 for a in axes):
        return None
    if transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)
    if transform == "align_corners":
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)
    return None


def _positions(transform: str, a: Axis) -> Numbers:
    """Where each output number lies along the input (`coordinate_transformation_mode` of the operator's definition)."""
    y = np.arange(a.wanted, dtype=np.float64)
    length = a.scale * a.size  # of the output, before it was cut to a whole number
    if transform == "asymmetric":
        return y / a.scale
    if transform == "align_corners":
        return y * (a.size - 1) / (length - 1) if length != 1 else np.zeros_like(y)
    if transform == "tf_crop_and_resize":
        region = (a.end - a.begin) * (a.size - 1)
        moved = y * region / (length - 1) if length != 1 else np.full_like(y, region / 2)
        return a.begin * (a.size - 1) + moved
    if transform == "pytorch_half_pixel" and length == 1:
        return np.zeros_like(y)
    centred = (y + 0.5) / a.scale - 0.5
    return centred + a.size / 2 * (1 - a.wanted / length) if transform == "half_pixel_symmetric" else centred


_ROUND: dict[str, Callable[[Numbers], Numbers]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(node: Node, a: Axis) -> NDArray[np.int64]:
    positions = _positions(node["coordinate_transformation_mode"], a)
    return np.clip(_ROUND[node["nearest_mode"]](positions), 0, a.size - 1).astype(np.int64)


def _linear(distance: Numbers) -> Numbers:
    return np.clip(1 - np.abs(distance), 0, None)


def _cubic(distance: Numbers, a: float) -> Numbers:
    """Cubic convolution (Keys 1981, equation 15, there with a = -1/2)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


_REACH = {"linear": 1, "cubic": 2}


def _taps(node: Node, a: Axis) -> tuple[NDArray[np.int64], Numbers]:
    """For each output number the input numbers (wanted, taps) that it is made of, and their factors.

    With `antialias` the kernel is as much wider as the image gets smaller. Beyond the ends the last number goes on, or
    counts nothing with `exclude_outside`.
    """
    positions = _positions(node["coordinate_transformation_mode"], a)
    stretch = min(a.scale, 1.0) if node.get("antialias", 0) else 1.0
    reach = int(np.ceil(_REACH[node["mode"]] / stretch))
    floor = np.floor(positions)
    indices = (floor[:, None] + np.arange(-reach + 1, reach + 1)).astype(np.int64)
    distances = (indices - positions[:, None]) * stretch
    factors = _linear(distances) if node["mode"] == "linear" else _cubic(distances, node["cubic_coeff_a"])
    if node["exclude_outside"]:
        factors = np.where((indices < 0) | (indices >= a.size), 0.0, factors)
    factors = factors / factors.sum(1, keepdims=True)
    return np.clip(indices, 0, a.size - 1), factors


def _resize_axis(node: Node, x: Tensor, a: Axis) -> Tensor:
    shape = [1] * x.dim()
    shape[a.axis] = a.wanted
    if node["mode"] == "nearest":
        y = x.index_select(a.axis, to_tensor(_nearest(node, a)).to(x.device))
    else:
        y = torch.zeros((), dtype=x.dtype, device=x.device)
        for index, factor in zip(*(np.moveaxis(t, 1, 0) for t in _taps(node, a)), strict=True):
            weights = to_tensor(factor).to(x).reshape(shape)
            y = y + x.index_select(a.axis, to_tensor(index.copy()).to(x.device)) * weights
    if node["coordinate_transformation_mode"] != "tf_crop_and_resize":
        return y
    positions = _positions("tf_crop_and_resize", a)
    outside = to_tensor((positions < 0) | (positions > a.size - 1)).to(x.device).reshape(shape)
    return torch.where(outside, node["extrapolation_value"], y)


ROWS: dict[str, Row] = {"Resize": Row(_resize, host=(1, 2, 3))}
