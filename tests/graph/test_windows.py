from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.weights.rows import Window, patch_rows, weight_rows
from fewbit.graph.load import load
from fewbit.graph.windows import convolution_window
from tests.graph.build import model, node, run


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[list[int], list[int], dict[str, Any]]:
    """Shapes of input and weight, and attributes, of a Conv whose output is not empty."""
    axes = draw(st.integers(1, 3))

    def numbers(low: int, high: int, count: int = axes) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(count)]

    groups, deep = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    mode = draw(st.sampled_from(["NOTSET", "explicit", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # ONNX Runtime refuses dilation beside SAME.
    kernel, strides, dilations = numbers(1, 3), numbers(1, 3), numbers(1, 1 if mode.startswith("SAME") else 2)
    attributes: dict[str, Any] = {"group": groups}
    for name, value in (("strides", strides), ("dilations", dilations)):
        if draw(st.booleans()) or any(v != 1 for v in value):
            attributes[name] = value
    if mode == "explicit":
        attributes["pads"] = numbers(0, 2, 2 * axes)
    elif mode != "NOTSET":
        attributes["auto_pad"] = mode
    sizes = [(k - 1) * d + 1 + extra for k, d, extra in zip(kernel, dilations, numbers(0, 4), strict=True)]
    outputs = groups * draw(st.integers(1, 2))
    return [2, groups * deep, *sizes], [outputs, deep, *kernel], attributes


@given(convolutions(), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_patches_times_rows_are_the_convolution(
    geometry: tuple[list[int], list[int], dict[str, Any]], seed: int
) -> None:
    shape, weight, attributes = geometry
    random = np.random.default_rng(seed)
    x, w = random.integers(-9, 10, shape).astype(np.float32), random.integers(-9, 10, weight).astype(np.float32)
    text = ",".join(map(str, shape))
    proto = model([node("Conv", ["x", "w"], ["y"], **attributes)], [f"x:f[{text}]"], ["y:f"], {"w": w})
    hub = load(proto, normalize=False)
    window = convolution_window(hub, hub.nodes()[0])
    assert window is not None
    groups = attributes["group"]
    rows = patch_rows(x, window, groups, 10_000, random)
    y = rows @ weight_rows(w, 0, 1, groups).transpose(0, 2, 1)  # (groups, N · positions, outputs of a group)
    (wanted,) = run(proto, {"x": x})
    wanted = np.moveaxis(wanted, 1, -1)
    assert np.array_equal(np.concatenate(list(y), -1).reshape(wanted.shape), wanted)


def window_of(shape: str, **attributes: Any) -> Window | None:
    w = np.zeros((4, 2, 3, 2), np.float32)
    proto = model([node("Conv", ["x", "w"], ["y"], **attributes)], [f"x:f{shape}"], ["y:f"], {"w": w})
    hub = load(proto, normalize=False)
    return convolution_window(hub, hub.nodes()[0])


def test_literal_windows() -> None:
    assert window_of("[1,2,8,8]") == Window((3, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))
    given_ = window_of("[1,2,8,8]", strides=[2, 1], dilations=[1, 2], pads=[1, 2, 3, 4])
    assert given_ == Window((3, 2), (2, 1), (1, 2), ((1, 3), (2, 4)))
    assert window_of("[1,2,8,8]", auto_pad="SAME_UPPER") == Window((3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)))
    assert window_of("[1,2,8,8]", auto_pad="SAME_LOWER") == Window((3, 2), (1, 1), (1, 1), ((1, 1), (1, 0)))
    assert window_of("[1,2,8,8]", auto_pad="VALID") == Window((3, 2), (1, 1), (1, 1), ((0, 0), (0, 0)))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_a_size_that_is_not_known_leaves_the_padding_unknown(mode: str) -> None:
    assert window_of("[1,2,h,8]", auto_pad=mode) is None
    assert window_of("", auto_pad=mode) is None
    assert window_of("[1,2,h,8]", pads=[1, 1, 1, 1]) == Window((3, 2), (1, 1), (1, 1), ((1, 1), (1, 1)))
