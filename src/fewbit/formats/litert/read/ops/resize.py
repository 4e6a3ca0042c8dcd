"""Resizing of images, to the exact positions that LiteRT reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.layout import Layout
from fewbit.formats.litert.read.ops.row import Row, as_sizes

_MOST = 1 << 14
"""Pixels along an axis up to which positions are computed one by one, to compare them with ONNX Runtime's."""


def _resize_bilinear(b: Builder, op: Operator, options: Any) -> None:
    _put(b, op, _resize(b, op, "linear", _mode(options), None))


def _resize_nearest_neighbor(b: Builder, op: Operator, options: Any) -> None:
    """floor((i + ½) · scale) for half pixels, round(i · scale) for aligned corners, else floor(i · scale), in float32."""
    aligned = bool(options.alignCorners)
    half = bool(options.halfPixelCenters)
    sizes, wanted = b.sizes(op.inputs[0]), b.array(op.inputs[1])
    places = None
    if sizes is not None and len(sizes) == 4 and wanted is not None and wanted.size == 2:
        pairs = [(before, int(after)) for before, after in zip(sizes[1:3], wanted.reshape(-1), strict=True)]
        places = [_places(before, after, aligned, half) for before, after in pairs]
        if all(p is None for p in places):
            places = None
    if places is None:
        rounding = "round_prefer_ceil" if aligned or half else "floor"
        _put(b, op, _resize(b, op, "nearest", _mode(options), rounding))
        return
    value = b.real(op.inputs[0], Layout.FIRST)
    for axis, (before, place) in enumerate(zip((sizes or ())[1:3], places, strict=True), start=2):
        chosen = np.arange(before or 0) if place is None else place
        value = b.emit("Gather", [value, chosen.astype(np.int64)], axis=axis)
    _put(b, op, value)


def _places(before: int | None, after: int, aligned: bool, half: bool) -> NDArray[np.int64] | None:
    """What to read for each pixel of an axis, if a Resize would read something else in its own arithmetic."""
    if before is None or not 0 < before <= _MOST or not 0 < after <= _MOST:
        return None
    if after % before == 0 and not aligned:
        return None  # steps that are whole: both compute them without rounding
    index = np.arange(after, dtype=np.float32)
    corners = aligned and after > 1
    scale = np.float32(before - 1) / np.float32(after - 1) if corners else np.float32(before) / np.float32(after)
    exact = (index + np.float32(0.5 if half else 0)) * scale
    chosen = np.floor(exact + np.float32(0.5)) if aligned else np.floor(exact)
    return np.clip(chosen, 0, before - 1).astype(np.int64)


def _mode(options: Any) -> str:
    if options.alignCorners:
        return "align_corners"
    return "half_pixel" if options.halfPixelCenters else "asymmetric"


def _resize(b: Builder, op: Operator, mode: str, coordinates: str, rounding: str | None) -> ir.Value:
    if b.known_rank(op, op.inputs[0]) != 4:
        raise b.refuse(op, f"resizes {b.rank(op.inputs[0])} axes: there have to be 4")
    value, sizes, wanted = b.real(op.inputs[0], Layout.FIRST), b.sizes(op.inputs[0]) or (), b.array(op.inputs[1])
    axes = None
    if wanted is None or wanted.size != 2 or sizes[0] is None or sizes[3] is None:
        shape, axes = as_sizes(b, op.inputs[1]), [2, 3]
    else:
        shape = b.constant([sizes[0], sizes[3], *(int(size) for size in wanted.reshape(-1))], "sizes")
    return b.emit(
        "Resize",
        [value, None, None, shape],
        axes=axes,
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
    )


def _put(b: Builder, op: Operator, value: ir.Value) -> None:
    b.put(op.outputs[0], value, Layout.FIRST)


ROWS: dict[str, Row] = {
    "RESIZE_BILINEAR": Row(_resize_bilinear, "ResizeBilinearOptions", 2),
    "RESIZE_NEAREST_NEIGHBOR": Row(_resize_nearest_neighbor, "ResizeNearestNeighborOptions", 2),
}
