"""Pools: windows over NHWC images, and means over all of one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.graph import Op
from fewbit.formats.litert.write.layout import channels_last, identity
from fewbit.formats.litert.write.ops.padding import Padding, explicit_pads, find_padding, pad_image
from fewbit.formats.litert.write.ops.row import Row


def _window(op: Op) -> dict[str, Any]:
    x = op.need(0)
    if x.rank != 4 or len(op.outputs) > 1:
        raise refuse(op, f"its input has {x.rank} axes or it gives indices", "LiteRT pools images and gives none")
    kernel = list(op.get("kernel_shape", ()))
    dilations = list(op.get("dilations", (1, 1)))
    if dilations != [1, 1]:
        raise refuse(op, f"its dilations are {dilations}", "pools of LiteRT have none")
    return {"kernel": kernel, "strides": list(op.get("strides", (1, 1)))}


def _pads(op: Op, kernel: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """The padding of each axis, with what `ceil_mode` reads beyond the end."""
    x, output = op.need(0), op.outputs[0]
    pads = explicit_pads(op, x.shape[2:], kernel, strides, (1, 1))
    for axis, (before, after) in enumerate(pads):
        need = (output.shape[2 + axis] - 1) * strides[axis] + kernel[axis] - x.shape[2 + axis] - before
        pads[axis] = (before, max(need, 0) if need > after else after)
    return pads


def _write(
    emit: Emitter, op: Op, builtin: str, image: int, padding: str, kernel: list[int], strides: list[int]
) -> None:
    target = emit.make(op.outputs[0], channels_last(4))
    emit.call(
        builtin,
        [image],
        [target],
        "Pool2DOptions",
        padding=padding,
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        fusedActivationFunction=op.activation,
    )


def _max_pool(emit: Emitter, op: Op) -> None:
    window = _window(op)
    kernel, strides = window["kernel"], window["strides"]
    x = op.need(0)
    pads = _pads(op, kernel, strides)
    image = emit.read(x, channels_last(4))
    padding = find_padding(x.shape[2:], kernel, strides, (1, 1), pads)
    if padding is Padding.EXPLICIT:
        image = pad_image(emit, x, image, pads, float(np.finfo(np.float32).min))
        padding = Padding.VALID
    _write(emit, op, "MAX_POOL_2D", image, padding.value, kernel, strides)


def _average_pool(emit: Emitter, op: Op) -> None:
    """SAME of LiteRT divides by the numbers inside the image, as ONNX does without `count_include_pad`."""
    window = _window(op)
    kernel, strides = window["kernel"], window["strides"]
    x = op.need(0)
    pads = _pads(op, kernel, strides)
    declared = explicit_pads(op, x.shape[2:], kernel, strides, (1, 1))
    padding = find_padding(x.shape[2:], kernel, strides, (1, 1), pads)
    image = emit.read(x, channels_last(4))
    inside = not op.get("count_include_pad", 0)
    if padding is not Padding.VALID:
        if inside and padding is Padding.EXPLICIT:
            raise refuse(
                op, f"it leaves out its padding {pads} from the mean", "LiteRT can do that with SAME padding only"
            )
        if not inside:
            if pads != declared:
                raise refuse(op, "it counts its padding and has ceil_mode", "LiteRT counts either all or none")
            image = pad_image(emit, x, image, pads)
            padding = Padding.VALID
    _write(emit, op, "AVERAGE_POOL_2D", image, padding.value, kernel, strides)


def _global(builtin: str) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = emit.layout(x)
        layout = layout if x.rank != 4 or layout != identity(4) else channels_last(4)
        index = emit.read(x, layout)
        axes = [layout.index(axis) for axis in range(2, x.rank)]
        target = emit.make(op.outputs[0], layout)
        emit.call(builtin, [index, emit.integers(sorted(axes), "axes")], [target], "ReducerOptions", keepDims=True)

    return write


ROWS: dict[str, Row] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global("MEAN"),
    "GlobalMaxPool": _global("REDUCE_MAX"),
}
