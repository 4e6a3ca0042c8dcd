"""Small graphs for the rows that move and select numbers."""

from __future__ import annotations

import numpy as np

from tests.formats.litert.write.cases import COMPUTING, Case, around_conv, ints, one, w
from tests.graph.build import node

MOVING: dict[str, list[Case]] = {
    "Reshape": [
        one("Reshape", "2,3,4", out="f", constants={"s": ints(6, 4)}),
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Reshape", ["a", "s"], ["y"])],
            ["x:f[1,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3), "s": ints(1, 4, 16)},
        ),
        Case(
            [
                node("Conv", ["x", "w"], ["a"]),
                node("Reshape", ["a", "s"], ["b"]),
                node("Transpose", ["b"], ["y"], perm=[0, 2, 1]),
            ],
            ["x:f[1,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3), "s": ints(1, 4, 16)},
        ),
    ],
    "Flatten": [
        one("Flatten", "2,3,4", out="f"),
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Flatten", ["a"], ["b"]), node("Gemm", ["b", "v"], ["y"])],
            ["x:f[2,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3), "v": w(64, 5)},
        ),
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Flatten", ["a"], ["b"]), node("Relu", ["b"], ["y"])],
            ["x:f[2,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3)},
        ),
    ],
    "Squeeze": [one("Squeeze", "1,3,1,4", out="f", constants={"a": ints(0, 2)})],
    "Unsqueeze": [one("Unsqueeze", "3,4", out="f", constants={"a": ints(0, 2)})],
    "Transpose": [
        one("Transpose", "2,3,4", out="f", perm=[1, 2, 0]),
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Transpose", ["a"], ["y"], perm=[0, 2, 3, 1])],
            ["x:f[1,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3)},
        ),
    ],
    "Expand": [
        one("Expand", "2,1,4", out="f", constants={"s": ints(2, 3, 4)}),
        one("Expand", "3,1", out="f", constants={"s": ints(2, 3, 4)}),
    ],
    "Tile": [
        one("Tile", "2,3", out="f", constants={"r": ints(2, 3)}),
        around_conv("Tile", constants={"r": ints(1, 1, 2, 1)}),
    ],
    "Concat": [
        one("Concat", "2,3,4", "2,2,4", out="f", axis=1),
        one("Concat", "2,3", out="f", constants={"c": w(2, 4)}, axis=-1),
    ],
    "Split": [
        Case([node("Split", ["x"], ["y", "z"], axis=1)], ["x:f[2,6,3]"], ["y:f", "z:f"]),
        Case([node("Split", ["x", "s"], ["y", "z"], axis=1)], ["x:f[2,6,3]"], ["y:f", "z:f"], {"s": ints(2, 4)}),
        Case(
            [node("Conv", ["x", "w"], ["a"]), node("Split", ["a"], ["b", "c"], axis=1), node("Mul", ["b", "c"], ["y"])],
            ["x:f[1,3,6,6]"],
            ["y:f"],
            {"w": w(4, 3, 3, 3)},
        ),
    ],
    "DepthToSpace": [
        one("DepthToSpace", "1,8,3,4", out="f", blocksize=2),
        one("DepthToSpace", "1,8,3,4", out="f", blocksize=2, mode="CRD"),
    ],
    "SpaceToDepth": [one("SpaceToDepth", "1,3,4,6", out="f", blocksize=2)],
    "Slice": [
        one("Slice", "4,5,6", out="f", constants={"s": ints(1, -3), "e": ints(3, 99), "a": ints(0, 2)}),
        one("Slice", "4,5,6", out="f", constants={"s": ints(0), "e": ints(6), "a": ints(2), "t": ints(2)}),
        one("Slice", "4,5,6", out="f", constants={"s": ints(-1), "e": ints(-99), "a": ints(1), "t": ints(-2)}),
        around_conv("Slice", constants={"s": ints(1, 2), "e": ints(7, 8), "a": ints(2, 3), "t": ints(2, 1)}),
    ],
    "Pad": [
        one("Pad", "2,3", out="f", constants={"p": ints(1, 0, 0, 2)}),
        one("Pad", "2,3", out="f", constants={"p": ints(1, 0, 0, 2), "v": np.float32(1.5)}),
        one("Pad", "2,5", out="f", constants={"p": ints(1, 2, 0, 2)}, mode="reflect"),
        one("Pad", "2,5", out="f", constants={"p": ints(1, 2, 0, 2)}, mode="edge"),
        one("Pad", "2,5", out="f", constants={"p": ints(1, -2, 0, 2)}),
        around_conv("Pad", constants={"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}),
    ],
    "Gather": [
        one("Gather", "4,5,6", out="f", constants={"i": ints(2, 0, -1)}, axis=1),
        one("Gather", "4,5,6", out="f", constants={"i": np.array(-2)}, axis=2),
        Case([node("Gather", ["t", "x"], ["y"])], ["x:i[2,3]"], ["y:f"], {"t": w(7, 4)}),
        around_conv("Gather", constants={"i": ints(2, 0, 3, 1)}, axis=1),
    ],
    "GatherND": [one("GatherND", "4,5,6", out="f", constants={"i": np.array([[0, 1], [2, 3]])})],
    "OneHot": [
        Case(
            [node("OneHot", ["x", "d", "v"], ["y"])],
            ["x:i[2,3]"],
            ["y:f"],
            {"d": np.array(7), "v": np.array([0.25, 2.0], np.float32)},
        )
    ],
}

CASES = COMPUTING | MOVING
