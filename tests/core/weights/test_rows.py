from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.rows import Window, dense_rows, patch_rows, rows_to_weight, weight_rows


def test_literal_rows() -> None:
    w = np.arange(12).reshape(2, 3, 2)  # a convolution of 3 channels and 2 taps
    assert weight_rows(w, 0, 1).tolist() == [[[0, 2, 4, 1, 3, 5], [6, 8, 10, 7, 9, 11]]]
    assert weight_rows(w, 0, 1, groups=2).tolist() == [[[0, 2, 4, 1, 3, 5]], [[6, 8, 10, 7, 9, 11]]]
    matrix = np.arange(6).reshape(3, 2)
    assert weight_rows(matrix, 1, 0).tolist() == [[[0, 2, 4], [1, 3, 5]]]
    assert weight_rows(matrix, 0, 1).tolist() == [[[0, 1], [2, 3], [4, 5]]]


@pytest.mark.parametrize(
    ("shape", "out_axis", "in_axis", "groups"),
    [
        *[((6, 4), 0, 1, 1), ((6, 4), 1, 0, 1), ((6, 4), -1, -2, 1)],
        *[((6, 4, 3), 0, 1, 1), ((6, 4, 3, 2), 0, 1, 3), ((6, 1, 3, 3), 0, 1, 6), ((6, 2, 2, 3, 4), 0, 1, 2)],
    ],
)
def test_rows_and_back(shape: tuple[int, ...], out_axis: int, in_axis: int, groups: int) -> None:
    w = np.arange(np.prod(shape)).reshape(shape)
    rows = weight_rows(w, out_axis, in_axis, groups)
    assert rows.shape[:2] == (groups, shape[out_axis] // groups)
    back = rows_to_weight(rows, shape, out_axis, in_axis)
    assert np.array_equal(back, w) and back.flags.c_contiguous


def test_vectors_of_a_matrix_product() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert dense_rows(x, 6, np.random.default_rng(0)).tolist() == [x.reshape(6, 4).tolist()]
    few = dense_rows(x, 5, np.random.default_rng(0))
    assert few.shape == (1, 5, 4)
    assert len({row.tobytes() for row in few[0]} & {row.tobytes() for row in x.reshape(6, 4)}) == 5


def test_literal_patches() -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 4)  # channels 0..3 and 4..7
    window = Window((2,), (2,), (1,), ((1, 0),))
    rows = patch_rows(x, window, 1, 10, np.random.default_rng(0))
    assert rows.tolist() == [[[0, 0, 0, 4], [1, 5, 2, 6]]]
    apart = patch_rows(x, window, 2, 10, np.random.default_rng(0))
    assert apart.tolist() == [[[0, 0], [1, 2]], [[0, 4], [5, 6]]]


def test_patches_are_a_part_of_all() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 9, 7)).astype(np.float32)
    window = Window((3, 3), (1, 2), (1, 1), ((1, 1), (0, 1)))
    everything = {row.tobytes() for row in patch_rows(x, window, 1, 10_000, np.random.default_rng(0))[0]}
    some = patch_rows(x, window, 1, 12, np.random.default_rng(1))
    assert some.shape == (1, 12, 18)
    found = {row.tobytes() for row in some[0]}
    assert len(found) == 12 and found <= everything
    assert np.array_equal(some, patch_rows(x, window, 1, 12, np.random.default_rng(1)))
    assert patch_rows(x, window, 1, 1, np.random.default_rng(1)).shape == (1, 3, 18)
