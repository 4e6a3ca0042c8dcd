from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fewbit.core.codebook.kmeans import kmeans_1d, kmeans_blocks
from fewbit.errors import InputError


def error(x: NDArray, weights: NDArray, levels: NDArray) -> float:
    nearest = np.abs(x[:, None] - levels.astype(np.float64)).min(1)
    return float((weights * nearest**2).sum())


def least_error(x: NDArray, weights: NDArray, levels: int) -> float:
    """Every way to cut the sorted values into stretches."""
    order = np.argsort(x)
    x, weights = x[order], weights[order]
    best = np.inf
    for cuts in combinations(range(1, len(x)), levels - 1):
        total = 0.0
        for part in np.split(np.arange(len(x)), cuts):
            mass = weights[part].sum()
            mean = (weights[part] * x[part]).sum() / mass if mass else 0.0
            total += (weights[part] * (x[part] - mean) ** 2).sum()
        best = min(best, total)
    return float(best)


def test_literal_levels() -> None:
    assert kmeans_1d(np.array([0, 1, 10, 11, 12], np.float32), 2).tolist() == [0.5, 11]
    weighted = kmeans_1d(np.array([0, 1, 10, 11]), 2, np.array([1, 3, 1, 0]))
    assert weighted.tolist() == [0.75, 10]
    assert kmeans_1d(np.array([5, -2.0]), 4).tolist() == [-2, 0, 0, 5]  # the others are not needed


small = st.lists(st.integers(-50, 50), min_size=6, max_size=9)


@settings(max_examples=60, deadline=None)
@given(small, st.integers(2, 4), st.randoms())
def test_exact_for_few_values(numbers: list[int], levels: int, random: st.DataObject) -> None:
    x = np.array(numbers, np.float64)
    weights = np.array([random.choice([1, 2, 5]) for _ in numbers], np.float64)  # type: ignore[attr-defined]
    best = least_error(x, weights, levels)
    for table in (kmeans_1d(x, levels, weights), kmeans_blocks(x[None], levels, weights[None])[0]):
        assert (np.diff(table) >= 0).all()
        assert error(x, weights, table) == pytest.approx(best, rel=1e-5, abs=1e-5)


def test_many_values_come_within_a_thousandth_of_lloyd_with_many_starts() -> None:
    random = np.random.default_rng(0)
    x = random.standard_t(4, 20_000)
    ours = error(x, np.ones_like(x), kmeans_1d(x, 16))
    best = np.inf
    for _ in range(10):
        levels = np.sort(random.choice(x, 16, replace=False))
        for _ in range(100):
            index = np.searchsorted((levels[1:] + levels[:-1]) / 2, x)
            counts = np.maximum(np.bincount(index, minlength=16), 1)
            levels = np.sort(np.bincount(index, x, minlength=16) / counts)
        best = min(best, error(x, np.ones_like(x), levels))
    assert ours <= best * 1.001


def test_importance_moves_levels_to_what_matters() -> None:
    x = np.linspace(-1, 1, 1001)
    table = kmeans_1d(x, 8, np.where(x > 0.5, 1000.0, 1.0))
    assert (table > 0.5).sum() >= 5
    assert kmeans_1d(x, 8, np.zeros_like(x)).tolist() == kmeans_1d(x, 8).tolist()  # zero everywhere: equal weights


def test_zero_can_be_kept() -> None:
    x = np.random.default_rng(1).normal(3, 1, 500)
    assert 0.0 not in kmeans_1d(x, 8)
    assert 0.0 in kmeans_1d(x, 8, keep_zero=True)
    assert (kmeans_blocks(x.reshape(5, 100), 4, keep_zero=True) == 0).any(1).all()


def test_blocks_are_independent_of_one_another() -> None:
    rows = np.random.default_rng(2).standard_normal((7, 64)).astype(np.float32)
    together = kmeans_blocks(rows, 4)
    assert together.shape == (7, 4)
    for row, table in zip(rows, together, strict=True):
        assert np.array_equal(kmeans_blocks(row[None], 4)[0], table)
        assert error(row, np.ones(64), table) == pytest.approx(error(row, np.ones(64), kmeans_1d(row, 4)), rel=1e-4)


def test_values_far_from_zero_keep_their_differences() -> None:
    table = kmeans_1d(np.array([1000.0, 1000.001, 1001.0, 1001.001]), 2)
    np.testing.assert_allclose(table, [1000.0005, 1001.0005], atol=1e-4)


def test_faults_are_named() -> None:
    with pytest.raises(InputError, match="2 to 256 levels, given 1"):
        kmeans_1d(np.ones(3), 1)
    with pytest.raises(InputError, match="NaN or infinity"):
        kmeans_1d(np.array([1, np.nan]), 2)
    with pytest.raises(InputError, match="not negative"):
        kmeans_1d(np.ones(3), 2, np.array([1, -1, 1]))
    with pytest.raises(InputError, match=r"importance of shape \(2,\) does not broadcast to \(3,\)"):
        kmeans_1d(np.ones(3), 2, np.ones(2))
    with pytest.raises(InputError, match=r"\(blocks, n\) with n >= 1, given \(0, 0\)|given \(1, 0\)"):
        kmeans_1d(np.ones(0), 2)
