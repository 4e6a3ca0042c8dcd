"""Shapes, joining and splitting."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.formats.litert.build import Tflite
from tests.formats.litert.cases.table import IMAGE, add_case, several_outputs


def _reshape(before: tuple[int, ...], after: tuple[int, ...], how: str = "input") -> Any:
    def make(t: Tflite) -> None:
        size = int(np.prod(before))
        full = [s if s != -1 else size // int(-np.prod(after)) for s in after]
        inputs = [t.input(before)] + ([t.constant(list(after))] if how == "input" else [])
        t.op("RESHAPE", inputs, full, "ReshapeOptions", newShape=list(after) if how == "options" else None)

    return make


for _after in ((1, 192), (-1, 4), (1, 48, 4), (1, 6, 1, 8, 4), (6, 8, 4), (1, 8, 6, 4), (1, -1, 4), (192,)):
    add_case(f"RESHAPE {_after}", _reshape(IMAGE, _after))
add_case("RESHAPE options", _reshape(IMAGE, (2, 96), "options"))
add_case("RESHAPE ones", _reshape((2, 1, 1, 6), (2, 6)))
add_case("RESHAPE drop height", _reshape((1, 1, 8, 4), (1, 8, 4)))
add_case("RESHAPE drop width", _reshape((1, 8, 1, 4), (1, -1, 4)))
add_case(
    "RESHAPE scalar",
    lambda t: t.op("RESHAPE", [t.input((1, 1)), t.constant(np.zeros(0, np.int32))], (), "ReshapeOptions"),
)
add_case(
    "RESHAPE computed",
    lambda t: t.op(
        "RESHAPE",
        [t.input((2, 6)), t.op("SHAPE", [t.input((3, 4))], (2,), "ShapeOptions", dtype="int32", outType=2)],
        (3, 4),
    ),
)
for _perm in ((0, 3, 1, 2), (0, 2, 1, 3), (0, 2, 3, 1), (0, 1, 2, 3), (3, 2, 1, 0)):
    add_case(
        f"TRANSPOSE {_perm}",
        lambda t, perm=_perm: t.op("TRANSPOSE", [t.input(IMAGE), t.constant(list(perm))], [IMAGE[i] for i in perm]),
    )
add_case(
    "TRANSPOSE then add",
    lambda t: t.op(
        "ADD",
        [t.op("TRANSPOSE", [t.input(IMAGE), t.constant([0, 3, 1, 2])], (1, 4, 6, 8)), t.weight(1, 4, 1, 1)],
        (1, 4, 6, 8),
        "AddOptions",
    ),
    op="TRANSPOSE",
)
for _axis in (0, 1, 2, 3, 4, -1, -2):
    _shape = list(IMAGE)
    _shape.insert(_axis if _axis >= 0 else _axis + 5, 1)
    add_case(
        f"EXPAND_DIMS {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "EXPAND_DIMS", [t.input(IMAGE), t.constant(a)], s, "ExpandDimsOptions"
        ),
    )
for _shape, _dims in (
    ((1, 1, 8, 4), [1]),
    ((1, 6, 1, 4), [2]),
    ((1, 6, 8, 1), [3]),
    ((1, 6, 8, 1), [-1]),
    ((1, 1, 1, 4), [1, 2]),
    ((1, 6, 1, 4), []),
    (IMAGE, [0]),
):
    _left = [s for i, s in enumerate(_shape) if s != 1 or (_dims and i not in [d % 4 for d in _dims])]
    add_case(
        f"SQUEEZE {_shape} {_dims}",
        lambda t, s=_shape, d=_dims, left=tuple(_left): t.op(
            "SQUEEZE", [t.input(s)], left, "SqueezeOptions", squeezeDims=d or None
        ),
    )
add_case("SHAPE", lambda t: t.op("SHAPE", [t.input(IMAGE)], (4,), "ShapeOptions", dtype="int32", outType=2))
add_case("SHAPE int64", lambda t: t.op("SHAPE", [t.input(IMAGE)], (4,), "ShapeOptions", dtype="int64", outType=4))
add_case("RANK", lambda t: t.op("RANK", [t.input(IMAGE)], (), dtype="int32"))


for _axis in (0, 1, 2, 3, -1):
    _shape = [2 * s if i == _axis % 4 else s for i, s in enumerate(IMAGE)]
    add_case(
        f"CONCATENATION {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "CONCATENATION", [t.input(IMAGE), t.input(IMAGE)], s, "ConcatenationOptions", axis=a
        ),
    )
add_case(
    "CONCATENATION constant",
    lambda t: t.op(
        "CONCATENATION", [t.input(IMAGE), t.weight(1, 6, 8, 2)], (1, 6, 8, 6), "ConcatenationOptions", axis=3
    ),
)
for _axis in (0, 1, 2, -1):
    _shape = [3, 4]
    _shape.insert(_axis % 3, 2)
    add_case(
        f"PACK {_axis}",
        lambda t, a=_axis, s=tuple(_shape): t.op(
            "PACK", [t.input((3, 4)), t.input((3, 4))], s, "PackOptions", axis=a, valuesCount=2
        ),
    )


add_case(
    "UNPACK 0", several_outputs("UNPACK", lambda t: [t.input((2, 3, 4))], [(3, 4)] * 2, "UnpackOptions", num=2, axis=0)
)
add_case(
    "UNPACK 3", several_outputs("UNPACK", lambda t: [t.input(IMAGE)], [(1, 6, 8)] * 4, "UnpackOptions", num=4, axis=3)
)
add_case("UNPACK one", several_outputs("UNPACK", lambda t: [t.input((1, 3))], [(3,)], "UnpackOptions", num=1, axis=0))
for _axis, _shape in ((1, (1, 3, 8, 4)), (3, (1, 6, 8, 2)), (-1, (1, 6, 8, 2))):
    add_case(
        f"SPLIT {_axis}",
        several_outputs(
            "SPLIT", lambda t, a=_axis: [t.constant(a), t.input(IMAGE)], [_shape] * 2, "SplitOptions", numSplits=2
        ),
    )
add_case(
    "SPLIT_V",
    several_outputs(
        "SPLIT_V",
        lambda t: [t.input(IMAGE), t.constant([1, 3]), t.constant(3)],
        [(1, 6, 8, 1), (1, 6, 8, 3)],
        "SplitVOptions",
        numSplits=2,
    ),
)
add_case(
    "SPLIT_V rest",
    several_outputs(
        "SPLIT_V",
        lambda t: [t.input(IMAGE), t.constant([2, -1]), t.constant(1)],
        [(1, 2, 8, 4), (1, 4, 8, 4)],
        "SplitVOptions",
        numSplits=2,
    ),
)
add_case("TILE", lambda t: t.op("TILE", [t.input(IMAGE), t.constant([2, 1, 1, 3])], (2, 6, 8, 12)))
add_case("TILE computed", lambda t: t.op("TILE", [t.input((2, 3)), t.input((2,), "int32")], (4, 3)), ranges={1: (1, 3)})
add_case(
    "BROADCAST_TO", lambda t: t.op("BROADCAST_TO", [t.input((1, 1, 8, 4)), t.constant([1, 6, 8, 4])], IMAGE, version=2)
)
add_case("FILL", lambda t: t.op("FILL", [t.constant([2, 3]), t.input(())], (2, 3)))
add_case(
    "RANGE",
    lambda t: t.op("RANGE", [t.constant(0), t.input((), "int32"), t.constant(2)], (3,), dtype="int32"),
    ranges={0: (5, 9)},
)
for _axis, _shape in ((-1, (2, 3, 5)), (0, (5, 2, 3)), (1, (2, 5, 3))):
    add_case(
        f"ONE_HOT {_axis}",
        lambda t, a=_axis, s=_shape: t.op(
            "ONE_HOT",
            [t.input((2, 3), "int32"), t.constant(5), t.constant(np.float32(2)), t.constant(np.float32(-1))],
            s,
            "OneHotOptions",
            axis=a,
        ),
        ranges={0: (-1, 6)},
    )
add_case(
    "DYNAMIC_UPDATE_SLICE",
    lambda t: t.op("DYNAMIC_UPDATE_SLICE", [t.input((1, 7, 4)), t.input((1, 2, 4)), t.input((3,), "int32")], (1, 7, 4)),
    ranges={2: (0, 1)},
)
