"""Resize: as LiteRT does it where that is the same numbers, nearest neighbours by Gather otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op
from fewbit.formats.litert.write.layout import channels_last, permuted
from fewbit.formats.litert.write.ops.common import constant_input, take
from fewbit.formats.litert.write.ops.row import Row

_HALF = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")


def _resize(emit: Emitter, op: Op) -> None:
    x, output = op.need(0), op.outputs[0]
    mode = op.get("mode", "nearest")
    transform = op.get("coordinate_transformation_mode", "half_pixel")
    changed = [axis for axis in range(x.rank) if x.shape[axis] != output.shape[axis]]
    if transform == "tf_crop_and_resize" or op.get("antialias", 0):
        raise refuse(op, f"it has {transform} or antialias", "LiteRT has neither")
    places = {axis: _coordinates(op, axis, transform) for axis in changed}
    spatial = x.rank == 4 and set(changed) <= {2, 3}
    if mode == "nearest":
        _nearest(emit, op, {axis: _rounded(op, p, x.shape[axis]) for axis, p in places.items()}, spatial=spatial)
        return
    flags = _bilinear_flags(op, places, transform) if mode == "linear" and spatial else None
    if flags is None:
        raise refuse(
            op, f"mode {mode} with {transform} over axes {changed}", "LiteRT has bilinear over height and width only"
        )
    layout = channels_last(4)
    sizes = emit.integers(output.shape[2:], "size")
    target = emit.make(output, layout)
    emit.call("RESIZE_BILINEAR", [emit.read(x, layout), sizes], [target], "ResizeBilinearOptions", **flags)


def _scale(op: Op, axis: int) -> float:
    """Output size over input size, as ONNX has it: what `scales` says, or the ratio of the sizes."""
    x, output = op.need(0), op.outputs[0]
    scales = constant_input(op, 2, "scales")
    axes = list(op.get("axes", range(x.rank)))
    if scales is not None and scales.size and axis in axes:
        return float(scales.reshape(-1)[axes.index(axis)])
    return output.shape[axis] / x.shape[axis]


def _coordinates(op: Op, axis: int, transform: str) -> NDArray[np.float64]:
    """Where each output lies on an axis of the input (ONNX, operator Resize)."""
    before, after = op.need(0).shape[axis], op.outputs[0].shape[axis]
    scale = _scale(op, axis)
    out = np.arange(after, dtype=np.float64)
    if transform == "asymmetric":
        return out / scale
    if transform == "align_corners":
        last = scale * before - 1  # with a size that is not whole, as ONNX Runtime has it
        return out * (before - 1) / last if after > 1 and last else out * 0.0
    if transform == "pytorch_half_pixel" and after == 1:
        return out * 0.0
    if transform == "half_pixel_symmetric":
        adjustment = after / (scale * before)
        return before / 2 * (1 - adjustment) + (out + 0.5) / scale - 0.5
    return (out + 0.5) / scale - 0.5


def _rounded(op: Op, places: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    how = op.get("nearest_mode", "round_prefer_floor")
    if how == "floor":
        found = np.floor(places)
    elif how == "ceil":
        found = np.ceil(places)
    else:
        found = np.floor(places + 0.5) if how == "round_prefer_ceil" else np.ceil(places - 0.5)
    result: NDArray[np.int64] = np.clip(found, 0, size - 1).astype(np.int64)
    return result


def _nearest(emit: Emitter, op: Op, places: dict[int, NDArray[np.int64]], *, spatial: bool) -> None:
    x, output = op.need(0), op.outputs[0]
    for flags in ({}, {"halfPixelCenters": True}, {"alignCorners": True}) if spatial else ():
        own = {axis: _as_litert(x.shape[axis], output.shape[axis], flags) for axis in (2, 3)}
        wanted = {axis: places.get(axis, np.arange(x.shape[axis])) for axis in (2, 3)}
        if all(np.array_equal(own[axis], wanted[axis]) for axis in (2, 3)):
            source = emit.read(x, channels_last(4))
            target = emit.make(output, channels_last(4))
            sizes = emit.integers(output.shape[2:], "size")
            emit.call("RESIZE_NEAREST_NEIGHBOR", [source, sizes], [target], "ResizeNearestNeighborOptions", **flags)
            return
    layout = emit.layout(x)
    index = emit.read(x, layout)
    target = emit.make(output, layout)
    last = len(places) - 1
    for number, (axis, chosen) in enumerate(places.items()):
        index = take(
            emit, index, chosen.tolist(), layout.index(axis), f"{output.name}_part", target if number == last else None
        )
    if not places:
        emit.reshape(index, permuted(output.shape, layout), target)


def _as_litert(before: int, after: int, flags: dict[str, bool]) -> NDArray[np.int64]:
    """What RESIZE_NEAREST_NEIGHBOR reads (GetNearestNeighbor of LiteRT's reference kernel, float32)."""
    corners = bool(flags.get("alignCorners"))
    scale = np.float32((before - 1) / (after - 1)) if corners and after > 1 else np.float32(before / after)
    offset = np.float32(0.5 if flags.get("halfPixelCenters") else 0.0)
    place = (np.arange(after, dtype=np.float32) + offset) * scale
    found = np.floor(place + np.float32(0.5)) if corners else np.floor(place)
    result: NDArray[np.int64] = np.clip(found, 0, before - 1).astype(np.int64)
    return result


def _bilinear_flags(op: Op, places: dict[int, NDArray[np.float64]], transform: str) -> dict[str, bool] | None:
    """The options under which RESIZE_BILINEAR interpolates at the same places."""
    x, output = op.need(0), op.outputs[0]
    for flags in ({}, {"halfPixelCenters": True}, {"alignCorners": True}):
        same = True
        for axis, wanted in places.items():
            before, after = x.shape[axis], output.shape[axis]
            out = np.arange(after, dtype=np.float64)
            if flags.get("alignCorners"):
                own = out * ((before - 1) / (after - 1) if after > 1 else before / after)
            elif flags.get("halfPixelCenters"):
                own = (out + 0.5) * before / after - 0.5
            else:
                own = out * before / after
            ours, theirs = np.clip(own, 0, before - 1), np.clip(wanted, 0, before - 1)
            same = same and bool(np.allclose(ours, theirs, rtol=0, atol=1e-6))
        if same and (transform in _HALF) == bool(flags.get("halfPixelCenters")):
            return flags
    return None


ROWS: dict[str, Row] = {"Resize": _resize}
