from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewbit.core.affine import block_grid, dequantize, expand_blocks, fake_quantize, params_from_range, quantize
from fewbit.errors import InputError
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import INT8, UINT8, DType, QParams, QSpec
from tests.models import Builder

finite = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False))
dtypes = st.builds(DType, st.sampled_from(["int", "uint"]), st.integers(2, 16))


def test_literal_integers_with_ties_to_even() -> None:
    params = QParams(QSpec(INT8), np.float32(0.5), np.int32(0))
    x = np.array([0.25, 0.75, 1.25, -0.25, -0.75, 100.0, -100.0], np.float32)
    assert quantize(x, params).tolist() == [0, 2, 2, 0, -2, 127, -128]
    assert dequantize(np.array([2, -128], np.int8), params).tolist() == [1.0, -64.0]


@pytest.mark.parametrize(
    ("rounding", "integers"),
    [("half_even", [0, 2, 2, 0, -2]), ("half_away", [1, 2, 3, -1, -2]), ("floor", [0, 1, 2, -1, -2])],
)
def test_roundings(rounding: str, integers: list[int]) -> None:
    params = QParams(QSpec(INT8, rounding=rounding), np.float32(1.0), np.int32(0))  # type: ignore[arg-type]
    assert quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32), params).tolist() == integers


def test_half_away_does_not_round_up_just_below_a_half() -> None:
    params = QParams(QSpec(INT8, rounding="half_away"), np.float32(1.0), np.int32(0))
    assert quantize(np.array([0.49999997, -0.49999997], np.float32), params).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("low", "high", "spec", "scale", "zero"),
    [
        (-1.0, 3.0, QSpec(UINT8, symmetric=False), 4 / 255, 64),
        (1.0, 3.0, QSpec(UINT8, symmetric=False), 3 / 255, 0),
        (-2.0, -1.0, QSpec(UINT8, symmetric=False), 2 / 255, 255),
        (-1.0, 3.0, QSpec(INT8, narrow=True), 3 / 127, 0),
        (-4.0, 3.0, QSpec(INT8), 4 / 128, 0),
        (-1.0, 3.0, QSpec(UINT8), 3 / 127, 128),
        (0.0, 0.0, QSpec(INT8), 1.0, 0),
        (0.0, 1e-44, QSpec(INT8), np.finfo(np.float32).tiny, 0),
    ],
)
def test_params_from_range(low: float, high: float, spec: QSpec, scale: float, zero: int) -> None:
    params = params_from_range(low, high, spec)
    assert params.scale == np.float32(scale)
    assert params.zero_point == zero


def test_an_infinite_range_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        params_from_range(0.0, np.inf, QSpec(INT8))


@given(finite, dtypes, st.booleans())
@settings(max_examples=150, deadline=None)
def test_properties_inside_the_range(x: np.ndarray, dtype: DType, symmetric: bool) -> None:
    spec = QSpec(dtype, symmetric=symmetric)
    params = params_from_range(x.min(), x.max(), spec)
    once = fake_quantize(x, params)
    slack = 1 + 1e-4 + 2.0**-20 * (dtype.qmax - dtype.qmin)
    if not (symmetric and dtype.kind == "uint"):  # whose two sides are not the same length
        limit = float(params.scale) / 2 * slack
        if not symmetric:
            limit += float(params.scale) / 2 * slack  # the zero point was rounded too
        assert np.abs(once - x).max() <= limit
    assert np.array_equal(fake_quantize(once, params), once)  # idempotent
    order = np.argsort(x)
    assert (np.diff(quantize(x, params)[order].astype(np.int64)) >= 0).all()  # monotone
    if symmetric and dtype.kind == "int":
        narrow = params_from_range(x.min(), x.max(), QSpec(dtype, narrow=True))
        assert np.array_equal(quantize(-x, narrow), -quantize(x, narrow))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_agrees_with_the_runtime_bit_for_bit(kind: str) -> None:
    dtype = DType.parse(kind)
    x = np.random.default_rng(0).standard_normal((3, 4001)).astype(np.float32) * 3
    x[0, :64] = (np.arange(64) - 32) * np.float32(0.5) * np.float32(0.037)  # ties
    params = params_from_range(-5.0, 7.0, QSpec(dtype, symmetric=False))
    b = Builder()
    q = b.node(
        "QuantizeLinear", ["x", b.constant(params.scale), b.constant(params.zero_point.astype(dtype.storage))], "y"
    )
    from onnx import TensorProto

    kinds = {"y": getattr(TensorProto, kind.upper())}
    session = open_session(b.proto({"x": (3, None)}, [q], opset=21, dtypes=kinds).SerializeToString())
    assert np.array_equal(session.run({"x": x})[0], quantize(x, params))


def test_blocks() -> None:
    assert block_grid((4, 70), ()) == ()
    assert block_grid((4, 70), (-1, -1)) == ()
    assert block_grid((4, 70), (1, -1)) == (4, 1)
    assert block_grid((4, 70), (1, 32)) == (4, 3)
    with pytest.raises(InputError, match="axes"):
        block_grid((4, 70), (1,))
    with pytest.raises(InputError, match="positive"):
        block_grid((4, 70), (1, 0))
    expanded = expand_blocks(np.array([[1.0, 2.0, 3.0]]), (1, 5), (1, 2))
    assert expanded.tolist() == [[1.0, 1.0, 2.0, 2.0, 3.0]]
    per_channel = np.ones((4, 1))
    assert expand_blocks(per_channel, (4, 70), (1, -1)) is per_channel
