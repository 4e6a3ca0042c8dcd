from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper

from fewbit.core.codebook.floats import FLOAT8, fp8_scales, from_fp8, to_bfloat16, to_fp8
from fewbit.errors import InputError
from fewbit.runtimes.onnxruntime import open_session

Name = Literal["e4m3fn", "e5m2"]
LARGEST = {"e4m3fn": 448.0, "e5m2": 57344.0}
ONNX = {"e4m3fn": TensorProto.FLOAT8E4M3FN, "e5m2": TensorProto.FLOAT8E5M2}
NAMES: tuple[Name, ...] = ("e4m3fn", "e5m2")


def runtime_cast(x: NDArray, to: int) -> NDArray:
    """What ONNX Runtime's Cast there and back makes of x."""
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=to),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    return open_session(model.SerializeToString(), optimize=False).run({"x": x})[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_code_comes_back(name: Name) -> None:
    codes = np.arange(256, dtype=np.uint8).view(FLOAT8[name])
    finite = codes[np.isfinite(codes.astype(np.float32))]
    assert len(finite) == {"e4m3fn": 254, "e5m2": 248}[name]
    assert np.array_equal(to_fp8(from_fp8(finite, 0.25), name, 0.25).view(np.uint8), finite.view(np.uint8))
    assert finite.astype(np.float32).max() == LARGEST[name]


def test_literal_codes() -> None:
    x = np.array([1, -1, 448, 1e9, 2**-9, 0, 1.0625, 1.1875], np.float32)  # the last two are ties
    assert to_fp8(x, "e4m3fn", 1.0).view(np.uint8).tolist() == [0x38, 0xB8, 0x7E, 0x7E, 0x01, 0, 0x38, 0x3A]
    assert to_fp8(np.array([1, -1e9, 2**-16], np.float32), "e5m2", 1.0).view(np.uint8).tolist() == [0x3C, 0xFB, 0x01]


@pytest.mark.parametrize("name", NAMES)
def test_as_the_runtime_casts(name: Name) -> None:
    random = np.random.default_rng(0)
    x = (random.standard_normal(5000) * 2.0 ** random.integers(-20, 18, 5000)).astype(np.float32)
    assert np.array_equal(from_fp8(to_fp8(x, name, 1.0), 1.0), runtime_cast(x, ONNX[name]))


@given(arrays(np.float32, 20, elements=st.floats(-100, 100, width=32)))
def test_the_error_is_at_most_half_a_unit_in_the_last_place(x: NDArray[np.float32]) -> None:
    for name, bits, smallest in (("e4m3fn", 3, 2.0**-6), ("e5m2", 2, 2.0**-14)):
        error = np.abs(from_fp8(to_fp8(x, name, 1.0), 1.0) - x)  # type: ignore[arg-type]
        unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(x), smallest))) - bits)
        assert (error <= unit / 2).all()


def test_a_scale_a_row_uses_the_whole_range() -> None:
    rows = np.array([[1, -448], [0, 0], [0.5, 0.25]], np.float32)
    assert fp8_scales(rows, "e4m3fn").tolist() == [1, 1, np.float32(0.5 / 448)]
    assert fp8_scales(rows, "e5m2")[0] == np.float32(448 / 57344)


def test_bfloat16_as_the_runtime_casts_and_saturating() -> None:
    x = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    assert np.array_equal(to_bfloat16(x).astype(np.float32), runtime_cast(x, TensorProto.BFLOAT16))
    assert to_bfloat16(np.array([3.4e38, 1 + 2**-8, 1 + 3 * 2**-8], np.float32)).view(np.uint16).tolist() == [
        0x7F7F,
        0x3F80,
        0x3F82,
    ]


def test_faults_are_named() -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        to_fp8(np.array([np.inf]), "e5m2", 1.0)
    with pytest.raises(InputError, match="8-bit floats are e4m3fn, e5m2, given uint8"):
        from_fp8(np.zeros(1, np.uint8), 1.0)
    with pytest.raises(InputError, match="finite and positive"):
        to_fp8(np.ones(1), "e4m3fn", 0.0)
