from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.affine import expand_blocks, fake_quantize, quantize
from fewbit.core.weights.hqq import _fit, hqq_params
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, UINT4, DType, QParams, QSpec
from tests.core.weights.layers import heavy

UINT3 = DType("uint", 3)
SPECS = [
    QSpec(UINT4, (1, 8), symmetric=False),
    QSpec(UINT3, (1, -1), symmetric=False),
    QSpec(INT4, (1, 32), narrow=True),
    QSpec(INT8, ()),
]


def objective(w: np.ndarray, params: QParams, unit: QParams, p: float = 0.7) -> np.ndarray:
    """Σ |w - q(w)|^p of every block, in steps of `unit`."""
    step = expand_blocks(unit.scale, w.shape, unit.spec.block_shape)
    terms = (np.abs(fake_quantize(w, params).astype(np.float64) - w) / step) ** p
    if not unit.scale.ndim:
        return terms.sum(keepdims=True)
    size = -(-w.shape[1] // unit.scale.shape[1])
    return np.add.reduceat(terms, range(0, w.shape[1], size), axis=1)


@given(st.integers(0, 2**32 - 1), st.sampled_from(SPECS), st.sampled_from([32, 64, 90]))
@settings(max_examples=60, deadline=None)
def test_no_block_does_worse_than_plain_rounding(seed: int, spec: QSpec, inputs: int) -> None:
    w = heavy(np.random.default_rng(seed), (6, inputs if spec.block_shape != (1, 8) else inputs // 8 * 8))
    if spec.block_shape == (1, 32):
        w = w[:, :64]
    plain, found = weight_params(w, spec, method="absmax"), hqq_params(w, spec)
    assert found.scale.dtype == np.float32 and found.zero_point.dtype == np.int32
    assert found.scale.shape == found.zero_point.shape == plain.scale.shape
    assert (found.scale > 0).all()
    assert spec.qmin <= found.zero_point.min() and found.zero_point.max() <= spec.qmax
    start = objective(w, plain, plain)
    # The product of two float32 scales moves errors near zero a little, and |x|^0.7 is steep there.
    assert (objective(w, found, plain) <= start * (1 + 1e-3)).all()
    if spec.block_shape == (1, 8):
        assert objective(w, found, plain).sum() < 0.98 * start.sum()


def test_against_all_zero_points_and_a_grid_of_scales() -> None:
    """Half of what an exhaustive search gains over plain rounding, or more."""
    w = heavy(np.random.default_rng(0), (100, 16))
    spec = SPECS[1]
    plain = weight_params(w, spec, method="absmax")
    best = np.full((100, 1), np.inf)
    for ratio in np.linspace(0.3, 1.1, 81, dtype=np.float32):
        for zero in range(8):
            trial = QParams(spec, plain.scale * ratio, np.full_like(plain.zero_point, zero))
            best = np.minimum(best, objective(w, trial, plain))
    start, found = objective(w, plain, plain), objective(w, hqq_params(w, spec), plain)
    assert best.sum() < 0.9 * start.sum()
    assert found.sum() < (start.sum() + best.sum()) / 2


def test_at_the_scale_of_the_extremes_no_integer_zero_point_is_better() -> None:
    """Why the scale is optimized too."""
    w = heavy(np.random.default_rng(1), (50, 16))
    spec = SPECS[1]
    plain = weight_params(w, spec, method="absmax")
    start = objective(w, plain, plain)
    for zero in range(8):
        other = QParams(spec, plain.scale, np.full_like(plain.zero_point, zero))
        assert (objective(w, other, plain) >= start * (1 - 1e-3)).all()


def test_literal_integers() -> None:
    # The extremes give steps of 1.1 / 7 = 0.157. With steps of 0.15 all but the outlier are exact.
    w = np.array([[*np.arange(7) * 0.15] * 3 + [1.1]], np.float32)
    params = hqq_params(w, SPECS[1])
    assert params.scale[0, 0] == pytest.approx(0.15, rel=5e-3)
    assert params.zero_point.tolist() == [[0]]
    assert quantize(w, params).tolist() == [[0, 1, 2, 3, 4, 5, 6] * 3 + [7]]


def test_the_result_does_not_depend_on_the_scale_of_w() -> None:
    w = heavy(np.random.default_rng(2), (4, 64))
    first, second = hqq_params(w, SPECS[0]), hqq_params(w * np.float32(2.0**-12), SPECS[0])
    assert np.array_equal(first.zero_point, second.zero_point)
    assert np.array_equal(first.scale * np.float32(2.0**-12), second.scale)


def test_a_short_last_block_is_as_if_alone() -> None:
    w = heavy(np.random.default_rng(3), (4, 13))
    whole = hqq_params(w, SPECS[0])
    alone = hqq_params(w[:, 8:], QSpec(UINT4, (1, -1), symmetric=False))
    assert np.array_equal(whole.zero_point[:, 1:], alone.zero_point)
    assert np.allclose(whole.scale[:, 1:], alone.scale, rtol=1e-6)


def test_literal_fit() -> None:
    # The third weight only fills up a block.
    q, target = np.array([[5.0, 6.0, 4.0, 7.0]], np.float32), np.array([[0.5, 1.0, 0.0, 1.5]], np.float32)
    real, one, middle = np.array([[1.0, 1.0, 0.0, 1.0]]), np.ones((1, 1), np.float32), np.full((1, 1), 4, np.float32)
    assert [float(x[0, 0]) for x in _fit(q, target, real, real.sum(1), one, middle, SPECS[0])] == [0.5, 4.0]
    # Symmetric: the zero point stays, and scale = (5 · 0.5 + 6 · 1 + 7 · 1.5) / (25 + 36 + 16 + 49).
    scale, zero = _fit(q, target, real, real.sum(1), one, middle * 0, SPECS[2])
    assert zero[0, 0] == 0.0 and scale[0, 0] == pytest.approx(19.0 / 126.0)


def test_zero_blocks_are_exact() -> None:
    w = heavy(np.random.default_rng(4), (4, 64))
    w[1] = 0.0
    for spec in (SPECS[0], SPECS[2]):
        assert not fake_quantize(w, hqq_params(w, spec))[1].any()


@pytest.mark.parametrize("options", [{"p": 0.0}, {"p": 1.5}, {"beta": 0.0}, {"kappa": 0.5}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="p must be within"):
        hqq_params(np.ones((2, 8), np.float32), SPECS[0], **options)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        hqq_params(np.full((2, 8), np.inf, np.float32), SPECS[0])
