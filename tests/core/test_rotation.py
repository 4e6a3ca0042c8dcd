"""Rotations are orthogonal, and spread what stands out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.rotation import random_signs, rotation
from fewbit.errors import InputError


@given(st.integers(1, 96), st.integers(0, 2**32 - 1))
def test_a_rotation_is_orthogonal_and_has_no_large_entry(size: int, seed: int) -> None:
    matrix = rotation(random_signs(size, seed))
    assert np.allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    assert np.abs(matrix).max() <= np.sqrt(2 / size) + 1e-12


def test_four_channels_make_the_hadamard_matrix_with_signs() -> None:
    signs = np.array([1.0, -1.0, 1.0, 1.0], np.float32)
    assert (2 * rotation(signs)).round(12).tolist() == [[1, 1, 1, 1], [-1, 1, -1, 1], [1, 1, -1, -1], [1, -1, -1, 1]]


def test_one_large_value_is_spread() -> None:
    spike = np.zeros(64)
    spike[5] = 8.0
    assert np.abs(spike @ rotation(random_signs(64))).max() == pytest.approx(1.0)


@pytest.mark.parametrize("signs", [np.zeros(0), np.array([1.0, 0.5]), np.ones((2, 2))])
def test_other_numbers_are_refused(signs: np.ndarray) -> None:
    with pytest.raises(InputError, match="signs"):
        rotation(signs)


def test_random_signs_are_reproducible() -> None:
    assert set(random_signs(64).tolist()) == {1.0, -1.0}
    assert (random_signs(64, 3) == random_signs(64, 3)).all() and (random_signs(64, 3) != random_signs(64, 4)).any()
