"""Padding of windows: what LiteRT can say of it, and what has to be a Pad before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import numpy as np

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op, Tensor


class Padding(Enum):
    """SAME puts the smaller half before; EXPLICIT is neither."""

    SAME = "SAME"
    VALID = "VALID"
    EXPLICIT = "EXPLICIT"


def explicit_pads(
    op: Op, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis, `auto_pad` resolved."""
    mode = op.get("auto_pad", "NOTSET")
    axes = range(len(sizes))
    if mode == "VALID":
        return [(0, 0) for _ in axes]
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [same_total(*numbers) for numbers in zip(sizes, kernel, strides, dilations, strict=True)]
        small = [total // 2 for total in totals]
        upper = mode == "SAME_UPPER"
        return [(s, t - s) if upper else (t - s, s) for s, t in zip(small, totals, strict=True)]
    pads = op.get("pads", (0,) * (2 * len(sizes)))
    return [(int(pads[axis]), int(pads[axis + len(sizes)])) for axis in axes]


def same_total(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Zeros that SAME adds along an axis."""
    reach = (kernel - 1) * dilation + 1
    return max((math.ceil(size / stride) - 1) * stride + reach - size, 0)


def find_padding(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Padding:
    """What LiteRT calls a padding."""
    if all(pair == (0, 0) for pair in pads):
        return Padding.VALID
    for numbers, pair in zip(zip(sizes, kernel, strides, dilations, strict=True), pads, strict=True):
        total = same_total(*numbers)
        if pair != (total // 2, total - total // 2):
            return Padding.EXPLICIT
    return Padding.SAME


def pad_image(
    emit: Emitter, tensor: Tensor, image: int, pads: Sequence[tuple[int, int]], value: float | None = None
) -> int:
    """An NHWC tensor with numbers around it: zeros, which quantized tensors have as their zero point, or `value`."""
    n, h, w, c = emit.shape(image)
    shape = (n, h + sum(pads[0]), w + sum(pads[1]), c)
    padded = emit.temporary(f"{tensor.name}_padded", shape, tensor)
    amounts = emit.constant(np.array([(0, 0), *pads, (0, 0)], np.int64), "int32", hint="pads")
    if value is None:
        emit.call("PAD", [image, amounts], [padded], "PadOptions")
    else:
        emit.call("PADV2", [image, amounts, lowest(emit, tensor, value)], [padded], "PadV2Options")
    return padded


def lowest(emit: Emitter, tensor: Tensor, value: float) -> int:
    """A constant of one number in the type of a tensor; of a quantized one, the lowest integer for -inf."""
    if tensor.quant is not None:
        low = -128 if tensor.dtype == "int8" else -32768
        return emit.constant(np.array(low), tensor.dtype, tensor.quant, "lowest")
    return emit.constant(np.array(value, np.float32), tensor.dtype, hint="lowest")
