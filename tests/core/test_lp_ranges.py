"""Ranges by Lp norms."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.core.ranges import lp, mse
from fewbit.core.stats import TensorStats
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, UINT4, DType, QSpec
from fewbit.testing.ranges import RangeContract

SPEC = QSpec(UINT4, symmetric=False)


class TestLp3(RangeContract):
    estimator = partial(lp.range_, norm=3.0)


def seen(x: np.ndarray) -> TensorStats:
    stats = TensorStats(None)
    stats.update(x.astype(np.float32), 1 << 30)
    return stats


def laplace(count: int = 20000) -> np.ndarray:
    return np.random.default_rng(0).laplace(size=count).astype(np.float32)


@pytest.mark.parametrize("through", ["identity", "silu"])
def test_squares_give_the_range_of_least_squares(through: str) -> None:
    stats = seen(laplace())
    assert lp.range_(stats, SPEC, norm=2.0, through=through) == pytest.approx(
        mse.range_(stats, SPEC, through=through), rel=0.02
    )


@pytest.mark.parametrize("norm", [1.0, 2.5, 4.0])
def test_no_scaled_range_has_a_lower_error_of_its_norm(norm: float) -> None:
    x = laplace()
    low, high = lp.range_(seen(x), SPEC, norm=norm)

    def error(factor: float) -> float:
        params = params_from_range(np.float64(low * factor), np.float64(high * factor), SPEC)
        return float((np.abs(x - fake_quantize(x, params)) ** norm).mean())

    assert error(1.0) <= 1.02 * min(error(0.8), error(0.9), error(1.1), error(1.25))


def test_higher_norms_clip_less() -> None:
    widths = [high - low for low, high in (lp.range_(seen(laplace()), SPEC, norm=p) for p in (1.0, 2.0, 3.0, 4.0))]
    assert widths == sorted(widths) and widths[-1] > 1.5 * widths[0]


def test_norms_below_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"p ≥ 1, not 0\.5"):
        lp.range_(seen(laplace(10)), SPEC, norm=0.5)


def test_scales_of_weights_by_a_norm() -> None:
    w = laplace(4096).reshape(16, 256)
    spec = QSpec(INT4, (1, -1))
    scales = [weight_params(w, spec, norm=p).scale for p in (1.0, 2.0, 4.0)]
    assert scales[0].mean() < scales[1].mean() < scales[2].mean()
    for norm, scale in zip((1.0, 2.0, 4.0), scales, strict=True):
        own = np.abs(w - fake_quantize(w, weight_params(w, spec, norm=norm))) ** norm
        other = np.abs(w - fake_quantize(w, weight_params(w, spec, norm=norm + 1))) ** norm
        assert own.sum() < other.sum() and scale.shape == (16, 1)


def test_eight_bits_have_norms_too() -> None:
    spec = QSpec(DType("uint", 8), symmetric=False)
    narrow, wide = (lp.range_(seen(laplace()), spec, norm=p) for p in (1.0, 4.0))
    assert wide[1] > narrow[1]
