from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.core.affine import fake_quantize
from fewbit.core.codebook.params import codebook_params, learn_table
from fewbit.core.quant import dequantize, quantize
from fewbit.core.weights.scales import weight_params
from fewbit.errors import RecipeError
from fewbit.spec import FLOAT8E4M3, INT4, UINT4, DType, QSpec

W = np.random.default_rng(0).standard_t(5, (96, 80)).astype(np.float32)


def noise(w: NDArray, spec: QSpec, **options: object) -> float:
    params = codebook_params(w, spec, **options)  # type: ignore[arg-type]
    return float(((dequantize(quantize(w, params), params) - w) ** 2).sum())


@pytest.mark.parametrize("block", [(), (1, -1), (1, 32), (32, 1)])
def test_learned_levels_beat_even_ones_at_the_same_blocks(block: tuple[int, ...]) -> None:
    learned = noise(W, QSpec(UINT4, block, codebook="kmeans"))
    for method in ("mse", "absmax"):
        even = weight_params(W, QSpec(INT4, block), method=method)  # type: ignore[arg-type]
        assert learned < 0.85 * float(((fake_quantize(W, even) - W) ** 2).sum())
    assert learned < noise(W, QSpec(UINT4, block, codebook="nf4"))


def test_literal_parameters() -> None:
    w = np.array([[1, -2, 0.5, 0], [0, 0, 0, 0]], np.float32)
    params = codebook_params(w, QSpec(UINT4, (1, -1), codebook="fp4"), method="absmax")
    assert params.scale.tolist() == [[2], [1]] and params.table is not None and params.table.size == 15
    assert quantize(w, params).tolist() == [[12, 0, 10, 7], [7, 7, 7, 7]]
    assert np.array_equal(dequantize(quantize(w, params), params), w)


def test_a_learned_table_is_exact_where_few_values_exist() -> None:
    w = np.random.default_rng(1).choice([-0.9, -0.1, 0.2, 1.5], (8, 32)).astype(np.float32)
    assert noise(w, QSpec(DType("uint", 2), codebook="kmeans")) < 1e-9


def test_short_last_blocks_do_not_count_what_fills_them() -> None:
    w = np.tile(np.array([0.25, 0.5, 0.75, 1.0], np.float32), (4, 9))[:, :33]
    w[:, 32] = 1.0  # the last block of each row holds one value and 31 fillings, which would want a level at zero
    params = codebook_params(w, QSpec(DType("uint", 2), (1, 32), codebook="kmeans"))
    assert params.scale.shape == (4, 2)
    np.testing.assert_allclose(dequantize(quantize(w, params), params), w, rtol=2e-3)


def test_importance_reaches_table_and_scales() -> None:
    importance = np.where(np.arange(80) < 8, 500.0, 1.0)
    spec = QSpec(UINT4, (1, -1), codebook="kmeans")

    def weighted(params_importance: NDArray | None) -> float:
        params = codebook_params(W, spec, importance=params_importance)
        return float(((dequantize(quantize(W, params), params) - W) ** 2 * importance).sum())

    assert weighted(importance) < 0.7 * weighted(None)


def test_scales_fit_float16_where_its_normal_numbers_reach() -> None:
    scale = codebook_params(W, QSpec(UINT4, (1, 32), codebook="nf4")).scale
    assert np.array_equal(scale.astype(np.float16).astype(np.float32), scale)
    small = codebook_params(W * np.float32(1e-9), QSpec(UINT4, (1, 32), codebook="nf4")).scale
    assert 0 < small.max() < 1e-7  # float16 would have made it zero


def test_eight_bit_floats_have_a_scale_a_block_and_no_table() -> None:
    params = codebook_params(W, QSpec(FLOAT8E4M3, (1, -1)))
    assert params.table is None and params.scale.shape == (96, 1)
    codes = quantize(W, params)
    assert codes.dtype == FLOAT8E4M3.storage
    error = dequantize(codes, params) - W
    assert np.abs(error / W).max() <= 2**-4 * 1.01 and 31 < 10 * np.log10((W**2).sum() / (error**2).sum()) < 33


def test_learning_is_no_worse_than_even_levels() -> None:
    rows = np.linspace(-1, 1, 16, dtype=np.float32)[None].repeat(4, 0)
    np.testing.assert_allclose(learn_table(rows, 16), rows[0], atol=1e-6)


def test_a_codebook_is_indexed_by_unsigned_integers() -> None:
    with pytest.raises(RecipeError, match="codebook nf4 is indexed by uint2 to uint8, not int4"):
        QSpec(INT4, codebook="nf4")
