from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fewbit.core.codebook import table
from fewbit.core.codebook.nearest import decode, encode
from fewbit.errors import InputError

Floats = NDArray[np.float32]

finite = st.floats(-1e6, 1e6, width=32)
tables = st.lists(finite, min_size=2, max_size=20).map(lambda v: np.sort(np.array(v, np.float32)))
values = arrays(np.float32, st.integers(1, 30), elements=finite)


def test_literal_indices_and_ties_to_the_lower() -> None:
    levels = np.array([-1, 0, 1, 4], np.float32)
    x = np.array([-9, -0.5, -0.49, 0.5, 0.51, 2.5, 2.51, 99], np.float32)
    assert encode(x, 1.0, levels).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert encode(x * 2, 2.0, levels).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert decode(np.array([[3, 0]], np.uint8), 0.5, levels).tolist() == [[2.0, -0.5]]


@given(values, tables)
def test_encode_is_nearest(x: Floats, levels: Floats) -> None:
    index = encode(x, 1.0, levels)
    distance = np.abs(x[:, None].astype(np.float64) - levels)
    assert np.array_equal(distance[np.arange(len(x)), index], distance.min(1))


@given(tables, st.floats(0.0078125, 100, width=32))
def test_levels_come_back(levels: Floats, scale: float) -> None:
    indices = np.arange(len(levels), dtype=np.uint8)
    real = decode(indices, scale, levels)
    again = decode(encode(real, scale, levels), scale, levels)
    # Two levels closer than a rounding error of x / scale may be taken for one another.
    np.testing.assert_allclose(again, real, rtol=3e-7)


@given(arrays(np.float32, st.integers(1, 64), elements=st.floats(-1, 1, width=32)), st.sampled_from(["nf4", "fp4"]))
def test_the_error_is_at_most_half_of_the_widest_gap(x: Floats, name: str) -> None:
    levels = table(name, 4)
    assert np.abs(decode(encode(x, 1.0, levels), 1.0, levels) - x).max() <= np.diff(levels).max() / 2 * 1.000001


def test_one_table_a_block_and_one_scale_a_block() -> None:
    levels = np.array([[0, 1], [0, 10]], np.float32)
    x = np.array([[0.4, 0.6, 6], [4, 6, 60]], np.float32)
    assert encode(x, 1.0, levels).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert encode(x, np.array([[1], [10]], np.float32), levels).tolist() == [[0, 1, 1], [0, 0, 1]]
    assert decode(np.array([[1], [1]], np.uint8), 2.0, levels).tolist() == [[2], [20]]


def test_chunks_do_not_show() -> None:
    x = np.random.default_rng(0).standard_normal((3, 70_000)).astype(np.float32)
    levels = table("nf4", 4)
    assert np.array_equal(encode(x, 1.0, levels), np.abs(x[..., None] - levels).argmin(-1))


def test_faults_are_named() -> None:
    levels, x = table("nf4", 4), np.zeros(4, np.float32)
    with pytest.raises(InputError, match="NaN or infinite"):
        encode(x + np.nan, 1.0, levels)
    with pytest.raises(InputError, match="a scale must be finite and positive, given 0"):
        encode(x, 0.0, levels)
    with pytest.raises(InputError, match="ascending"):
        encode(x, 1.0, levels[::-1])
    with pytest.raises(InputError, match="does not broadcast"):
        encode(x, np.ones(3), levels)
    with pytest.raises(InputError, match="index 16 is beyond a table of 16 levels"):
        decode(np.array([16], np.uint8), 1.0, levels)
