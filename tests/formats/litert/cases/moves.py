"""Slices, gathers, padding and blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.formats.litert.build import Tflite
from tests.formats.litert.cases.table import IMAGE, add_case

add_case(
    "SLICE",
    lambda t: t.op("SLICE", [t.input(IMAGE), t.constant([0, 1, 2, 1]), t.constant([-1, 3, 4, 2])], (1, 3, 4, 2)),
)
add_case(
    "SLICE computed",
    lambda t: t.op("SLICE", [t.input((5, 6)), t.input((2,), "int32"), t.constant([2, -1])], (2, 5)),
    ranges={1: (1, 1)},
)


def _strided(begins: list[int], ends: list[int], strides: list[int], shape: tuple[int, ...], **masks: Any) -> Any:
    return lambda t: t.op(
        "STRIDED_SLICE",
        [t.input(IMAGE), t.constant(begins), t.constant(ends), t.constant(strides)],
        shape,
        "StridedSliceOptions",
        **masks,
    )


add_case("STRIDED_SLICE", _strided([0, 1, 0, 1], [1, 5, 8, 3], [1, 2, 3, 1], (1, 2, 3, 2)))
add_case(
    "STRIDED_SLICE masks", _strided([0, 3, 4, 2], [0, 3, 4, 2], [1, 1, 1, 1], (1, 3, 4, 2), beginMask=3, endMask=13)
)
add_case(
    "STRIDED_SLICE backwards",
    _strided([0, 4, 7, 3], [1, 0, 1, 0], [1, -1, -2, -1], (1, 4, 4, 4), beginMask=8, endMask=8),
)
add_case("STRIDED_SLICE shrink batch", _strided([0, 0, 0, 0], [1, 6, 8, 4], [1, 1, 1, 1], (6, 8, 4), shrinkAxisMask=1))
add_case("STRIDED_SLICE shrink row", _strided([0, 2, 0, 0], [1, 3, 8, 4], [1, 1, 1, 1], (1, 8, 4), shrinkAxisMask=2))
add_case(
    "STRIDED_SLICE shrink channel", _strided([0, 0, 0, -1], [1, 6, 8, 0], [1, 1, 1, 1], (1, 6, 8), shrinkAxisMask=8)
)
add_case("STRIDED_SLICE shrink both", _strided([0, 0, 0, 1], [1, 6, 8, 2], [1, 1, 1, 1], (6, 8), shrinkAxisMask=9))
add_case("STRIDED_SLICE short", _strided([0, 1], [1, 4], [1, 1], (1, 3, 8, 4)))
add_case("STRIDED_SLICE negative", _strided([-1, -5, -8, -3], [1, -1, 8, -1], [1, 1, 2, 1], (1, 4, 4, 2)))
add_case("STRIDED_SLICE ellipsis", _strided([0, 0, 1], [1, 0, 3], [1, 1, 1], (1, 6, 8, 2), ellipsisMask=2))
add_case(
    "STRIDED_SLICE ellipsis new",
    _strided([0, 0, 0], [0, 0, 0], [1, 1, 1], (1, 6, 8, 4, 1), ellipsisMask=2, newAxisMask=4, beginMask=1, endMask=1),
)
add_case("STRIDED_SLICE new", _strided([0, 0, 0], [1, 0, 4], [1, 1, 1], (1, 1, 4, 8, 4), newAxisMask=2))
add_case(
    "STRIDED_SLICE new and shrink",
    _strided([0, 0, 2], [1, 0, 3], [1, 1, 1], (1, 1, 8, 4), newAxisMask=2, shrinkAxisMask=4),
)
add_case("STRIDED_SLICE offset", _strided([0, 1, 2, 0], [1, 2, 3, 4], [1, 1, 1, 1], (1, 2, 3, 4), offset=True))
add_case(
    "STRIDED_SLICE computed",
    lambda t: t.op(
        "STRIDED_SLICE",
        [t.input((5, 6)), t.input((2,), "int32"), t.input((2,), "int32"), t.constant([1, 1])],
        (3,),
        "StridedSliceOptions",
        shrinkAxisMask=1,
        endMask=2,
    ),
    ranges={1: (2, 3), 2: (3, 4)},
)


def _gather(shape: tuple[int, ...], indices: list[int], axis: int, batch: int = 0) -> Any:
    after = [*shape[:axis], *np.shape(indices)[batch:], *shape[axis + 1 :]]
    return lambda t: t.op(
        "GATHER", [t.input(shape), t.constant(indices)], after, "GatherOptions", axis=axis, batchDims=batch
    )


add_case("GATHER 0", _gather((5, 3), [4, 0, 2], 0))
add_case("GATHER channels", _gather(IMAGE, [3, 1], 3))
add_case("GATHER rows", _gather(IMAGE, [5, 0], 1))
add_case("GATHER one", _gather(IMAGE, 2, 3))
add_case("GATHER one row", _gather(IMAGE, 2, 1))
add_case("GATHER matrix", _gather(IMAGE, [[5, 0], [1, 1]], 1))
add_case("GATHER batch", _gather((2, 5, 3), [[4, 0], [1, 2]], 1, 1))
add_case(
    "GATHER computed",
    lambda t: t.op("GATHER", [t.weight(9, 4), t.input((2, 3), "int32")], (2, 3, 4), "GatherOptions"),
    ranges={1: (0, 8), 0: (0, 8)},
)
add_case("GATHER_ND", lambda t: t.op("GATHER_ND", [t.input((3, 4, 2)), t.constant([[2, 1], [0, 3]])], (2, 2)))
add_case(
    "SCATTER_ND",
    lambda t: t.op("SCATTER_ND", [t.constant([[4], [1], [4]]), t.input((3, 2)), t.constant([6, 2])], (6, 2)),
)
for _axis in ([1], [3], [2, 3]):
    add_case(f"REVERSE_V2 {_axis}", lambda t, a=_axis: t.op("REVERSE_V2", [t.input(IMAGE), t.constant(a)], IMAGE))


_PADS = [[0, 0], [1, 2], [3, 0], [1, 1]]
_PADDED = (1, 9, 11, 6)
add_case("PAD", lambda t: t.op("PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED))
add_case("PADV2", lambda t: t.op("PADV2", [t.input(IMAGE), t.constant(_PADS), t.constant(np.float32(0.7))], _PADDED))
add_case("PAD computed", lambda t: t.op("PAD", [t.input((2, 3)), t.input((2, 2), "int32")], (4, 5)), ranges={1: (1, 1)})
add_case(
    "MIRROR_PAD reflect",
    lambda t: t.op("MIRROR_PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED, "MirrorPadOptions", mode=0),
)
add_case(
    "MIRROR_PAD symmetric",
    lambda t: t.op("MIRROR_PAD", [t.input(IMAGE), t.constant(_PADS)], _PADDED, "MirrorPadOptions", mode=1),
)
add_case(
    "SPACE_TO_DEPTH",
    lambda t: t.op("SPACE_TO_DEPTH", [t.input(IMAGE)], (1, 3, 4, 16), "SpaceToDepthOptions", blockSize=2),
)
add_case(
    "DEPTH_TO_SPACE",
    lambda t: t.op("DEPTH_TO_SPACE", [t.input((1, 3, 4, 12))], (1, 6, 8, 3), "DepthToSpaceOptions", blockSize=2),
)
add_case(
    "SPACE_TO_BATCH_ND",
    lambda t: t.op(
        "SPACE_TO_BATCH_ND", [t.input((2, 5, 8, 3)), t.constant([2, 3]), t.constant([[1, 2], [1, 0]])], (12, 4, 3, 3)
    ),
)
add_case(
    "SPACE_TO_BATCH_ND 3",
    lambda t: t.op("SPACE_TO_BATCH_ND", [t.input((2, 6, 3)), t.constant([2]), t.constant([[1, 1]])], (4, 4, 3)),
)
add_case(
    "BATCH_TO_SPACE_ND",
    lambda t: t.op(
        "BATCH_TO_SPACE_ND", [t.input((12, 4, 3, 3)), t.constant([2, 3]), t.constant([[1, 2], [1, 0]])], (2, 5, 8, 3)
    ),
)


def _dilated(pads: list[list[int]], crops: list[list[int]], padding: int, kernel: int = 3) -> Any:
    """The convolution with gaps of 2 as a converter cuts it up."""

    def make(t: Tflite) -> None:
        block = t.constant([2, 2])
        high, wide = 6 + sum(pads[0]), 8 + sum(pads[1])
        x = t.op("SPACE_TO_BATCH_ND", [t.input(IMAGE), block, t.constant(pads)], (4, high // 2, wide // 2, 4))
        less = (kernel - 1) * padding
        shape = (4, high // 2 - less, wide // 2 - less, 5)
        x = t.op(
            "CONV_2D",
            [x, t.weight(5, kernel, kernel, 4), t.weight(5)],
            shape,
            "Conv2DOptions",
            strideH=1,
            strideW=1,
            padding=padding,
        )
        after = (1, 2 * shape[1] - sum(crops[0]), 2 * shape[2] - sum(crops[1]), 5)
        t.op("BATCH_TO_SPACE_ND", [x, block, t.constant(crops)], after)

    return make


add_case("BATCH_TO_SPACE_ND dilated", _dilated([[2, 2], [2, 2]], [[0, 0], [0, 0]], 1))
add_case("BATCH_TO_SPACE_ND dilated same", _dilated([[0, 0], [0, 0]], [[0, 0], [0, 0]], 0))
add_case("BATCH_TO_SPACE_ND dilated cropped", _dilated([[2, 4], [3, 3]], [[0, 1], [1, 0]], 1))
add_case("BATCH_TO_SPACE_ND cropped over", _dilated([[0, 0], [0, 0]], [[1, 1], [1, 1]], 1, kernel=1))
