"""Reductions and resizing."""

from __future__ import annotations

from tests.formats.litert.cases.table import IMAGE, add_case, several_outputs

for _op in ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"):
    for _axes, _keep in (
        ([1, 2], False),
        ([1, 2], True),
        ([3], False),
        ([3], True),
        ([1], False),
        ([2], False),
        ([-1, 0], False),
        ([0, 1, 2, 3], False),
    ):
        _gone = [a % 4 for a in _axes]
        _shape = [1 if i in _gone else s for i, s in enumerate(IMAGE) if _keep or i not in _gone]
        add_case(
            f"{_op} {_axes} {_keep}",
            lambda t, op=_op, a=_axes, k=_keep, s=tuple(_shape): t.op(
                op, [t.input(IMAGE), t.constant(a)], s, "ReducerOptions", keepDims=k
            ),
            ranges={0: (0.8, 1.2)} if _op == "REDUCE_PROD" else {},
        )
add_case(
    "SUM int32",
    lambda t: t.op("SUM", [t.input((3, 4), "int32"), t.constant([1])], (3,), "ReducerOptions", dtype="int32"),
)
for _op in ("REDUCE_ANY", "REDUCE_ALL"):
    add_case(
        _op,
        lambda t, op=_op: t.op(op, [t.input((3, 4), "bool"), t.constant([1])], (3,), "ReducerOptions", dtype="bool"),
    )
for _op, _options in (("ARG_MAX", "ArgMaxOptions"), ("ARG_MIN", "ArgMinOptions")):
    for _axis, _to in ((3, "int64"), (1, "int32"), (-1, "int32")):
        add_case(
            f"{_op} {_axis} {_to}",
            lambda t, op=_op, o=_options, a=_axis, to=_to: t.op(
                op,
                [t.input(IMAGE), t.constant(a)],
                [s for i, s in enumerate(IMAGE) if i != a % 4],
                o,
                dtype=to,
                outputType=4 if to == "int64" else 2,
            ),
        )
add_case(
    "TOPK_V2",
    several_outputs(
        "TOPK_V2", lambda t: [t.input((3, 9)), t.constant(4)], [(3, 4), (3, 4)], "TopKV2Options", ["float32", "int32"]
    ),
)
for _exclusive, _reverse in ((False, False), (True, False), (False, True)):
    add_case(
        f"CUMSUM {_exclusive} {_reverse}",
        lambda t, e=_exclusive, r=_reverse: t.op(
            "CUMSUM", [t.input(IMAGE), t.constant(3)], IMAGE, "CumsumOptions", exclusive=e, reverse=r
        ),
    )


for _op, _options in (
    ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
):
    for _how in ({}, {"alignCorners": True}, {"halfPixelCenters": True}):
        for _size in ((12, 16), (9, 5), (3, 4), (1, 1), (7, 13)):
            add_case(
                f"{_op} {_size} {''.join(_how)}",
                lambda t, op=_op, o=_options, size=_size, how=_how: t.op(
                    op, [t.input(IMAGE), t.constant(list(size))], (1, *size, 4), o, **how
                ),
            )
add_case(
    "RESIZE_BILINEAR computed",
    lambda t: t.op(
        "RESIZE_BILINEAR",
        [t.input(IMAGE), t.input((2,), "int32")],
        (1, 9, 9, 4),
        "ResizeBilinearOptions",
        halfPixelCenters=True,
    ),
    ranges={1: (9, 9)},
)
# Sizes at which ONNX Runtime's own arithmetic reads another pixel.
for _before, _after, _how in ((14, 2, {}), (8, 47, {"alignCorners": True}), (2, 41, {"halfPixelCenters": True})):
    add_case(
        f"RESIZE_NEAREST_NEIGHBOR {_before} to {_after}",
        lambda t, before=_before, after=_after, how=_how: t.op(
            "RESIZE_NEAREST_NEIGHBOR",
            [t.input((1, before, before, 2)), t.constant([after, after])],
            (1, after, after, 2),
            "ResizeNearestNeighborOptions",
            **how,
        ),
    )
