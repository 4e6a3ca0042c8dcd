from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.core.codebook import table
from fewbit.core.codebook.nearest import decode, encode
from fewbit.core.codebook.scales import codebook_scales
from fewbit.errors import InputError, RecipeError

ROWS = np.random.default_rng(0).standard_normal((40, 64)).astype(np.float32)


def errors(rows: NDArray, levels: NDArray, scale: NDArray, weights: NDArray | float = 1.0) -> NDArray:
    s = scale[:, None]
    return ((decode(encode(rows, s, levels), s, levels) - rows) ** 2 * weights).sum(1)


def test_absmax_maps_the_largest_magnitude_to_the_largest_level() -> None:
    rows = np.array([[0.5, -2, 1], [0, 0, 0], [3, 0, 0]], np.float32)
    assert codebook_scales(rows, table("fp4", 4), method="absmax").tolist() == [2, 1, 3]
    assert codebook_scales(rows, np.array([-4, 0, 2], np.float32), method="absmax").tolist() == [0.5, 1, 0.75]


@pytest.mark.parametrize("name", ["nf4", "fp4", "pot", "apot"])
def test_mse_is_within_two_percent_of_an_exhaustive_search_and_never_above_absmax(name: str) -> None:
    levels = table(name, 4)
    found = errors(ROWS, levels, codebook_scales(ROWS, levels))
    absmax = codebook_scales(ROWS, levels, method="absmax")
    assert (found <= errors(ROWS, levels, absmax)).all()
    exhaustive = np.min([errors(ROWS, levels, (absmax * r).astype(np.float32)) for r in np.linspace(0.3, 1.5, 600)], 0)
    assert found.sum() <= exhaustive.sum() * 1.02


def test_importance_counts() -> None:
    levels, weights = table("nf4", 4), np.where(np.arange(64) < 4, 1000.0, 1.0)
    plain, heeded = codebook_scales(ROWS, levels), codebook_scales(ROWS, levels, weights)
    assert errors(ROWS, levels, heeded, weights).sum() < 0.8 * errors(ROWS, levels, plain, weights).sum()


def test_scales_follow_the_rows_and_stay_normal() -> None:
    levels = table("nf4", 4)
    scales = codebook_scales(ROWS, levels)
    np.testing.assert_array_equal(codebook_scales(ROWS * np.float32(2**40), levels), scales * np.float32(2**40))
    tiny = codebook_scales(np.full((1, 4), 1e-44, np.float32), levels)
    assert tiny[0] == np.finfo(np.float32).tiny


def test_faults_are_named() -> None:
    with pytest.raises(RecipeError, match="scale method 'max' is not known; use mse or absmax"):
        codebook_scales(ROWS, table("nf4", 4), method="max")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="level other than zero"):
        codebook_scales(ROWS, np.zeros(4, np.float32))
    with pytest.raises(InputError, match="NaN or infinity"):
        codebook_scales(ROWS + np.nan, table("nf4", 4))
