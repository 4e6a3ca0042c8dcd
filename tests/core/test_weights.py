from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize
from fewbit.core.balance import balance_factors
from fewbit.core.floats import exact_step, is_exact_float16, to_float16
from fewbit.core.weights.bias import output_shift, tap_coverage
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, QSpec

RANDOM = np.random.default_rng(0)


def test_absmax_scales_per_channel() -> None:
    w = np.array([[1.0, -2.54], [0.0, 0.0], [127.0, 3.0]], np.float32)
    params = weight_params(w, QSpec(INT8, (1, -1), narrow=True), method="absmax")
    assert params.scale.tolist() == [[pytest.approx(0.02)], [1.0], [1.0]]
    assert not params.zero_point.any()


@pytest.mark.parametrize("block", [(), (1, -1), (1, 16), (1, 48)])
def test_mse_never_does_worse_than_absmax(block: tuple[int, ...]) -> None:
    w = RANDOM.standard_t(4, (8, 70)).astype(np.float32)
    spec = QSpec(INT4, block, narrow=True)
    errors = {m: ((fake_quantize(w, weight_params(w, spec, method=m)) - w) ** 2).sum() for m in ("absmax", "mse")}
    assert errors["mse"] <= errors["absmax"]
    if block != (1, 16):
        assert errors["mse"] < 0.95 * errors["absmax"]


def test_importance_moves_the_choice() -> None:
    w = np.concatenate([RANDOM.uniform(-0.2, 0.2, 63), [1.0]]).astype(np.float32)[None]
    spec = QSpec(INT4, (1, -1), narrow=True)
    only_the_large = np.r_[np.zeros(63), 1.0]
    wide = weight_params(w, spec, importance=only_the_large)
    assert wide.scale[0, 0] > weight_params(w, spec).scale[0, 0]


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        weight_params(np.array([[np.nan, 1.0]], np.float32), QSpec(INT8, (1, -1)))


def convolve(w: np.ndarray, x: np.ndarray, groups: int) -> np.ndarray:
    """Mean output of a 'valid' convolution, by brute force."""
    outputs, inputs, kh, kw = w.shape
    h, wd = x.shape[2] - kh + 1, x.shape[3] - kw + 1
    y = np.zeros((x.shape[0], outputs, h, wd))
    for o in range(outputs):
        first = (o // (outputs // groups)) * inputs
        for i in range(inputs):
            for a in range(kh):
                for b in range(kw):
                    y[:, o] += w[o, i, a, b] * x[:, first + i, a : a + h, b : b + wd]
    return y.mean((0, 2, 3))


@pytest.mark.parametrize(("groups", "shape"), [(1, (6, 4, 1, 1)), (2, (6, 2, 1, 1)), (4, (8, 1, 3, 3))])
def test_output_shift_is_the_mean_error(groups: int, shape: tuple[int, ...]) -> None:
    error = RANDOM.standard_normal(shape)
    x = RANDOM.standard_normal((2, 4, 9, 9)) + np.arange(4)[:, None, None]
    x[...] = x.mean((0, 2, 3), keepdims=True)  # constant in space, so that borders do not matter
    shift = output_shift(error, x.mean((0, 2, 3)), out_axis=0, in_axis=1, groups=groups)
    assert np.allclose(shift, convolve(error, x, groups))


def test_output_shift_of_a_matmul_weight() -> None:
    error, mean = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal(5)
    assert np.allclose(output_shift(error, mean, out_axis=1, in_axis=0), mean @ error)
    assert np.allclose(output_shift(error.T, mean, out_axis=0, in_axis=1), mean @ error)


def test_exact_steps() -> None:
    assert exact_step(np.array([0.0, -10000.0, 0.0], np.float32)) == 10000.0
    assert exact_step(np.array([0.5, 1.0, -63.5], np.float32)) == 0.5
    assert exact_step(np.array([0.5, 0.7], np.float32)) is None
    assert exact_step(np.array([1.0, 128.0], np.float32)) is None
    assert exact_step(np.array([-np.inf, 0.0], np.float32)) is None
    assert is_exact_float16(np.array([1.0, 0.25, 65504.0], np.float32))
    assert not is_exact_float16(np.array([0.1], np.float32))
    half, clamped = to_float16(np.array([1e6, -1e6, 1.0], np.float32))
    assert half.tolist() == [65504.0, -65504.0, 1.0] and clamped == 2


def test_balance_stretches_quiet_channels_and_keeps_fixed_ones() -> None:
    reach = np.array([8.0, 2.0, 0.5])
    ones = np.ones(3)
    table = np.ones((3, 1))
    factors, gain = balance_factors(reach, ones, ones, table, levels=255, weight_levels=127, depthwise=True)
    assert factors.tolist() == [1.0, 0.5, 0.25] and gain > 0
    kept, _ = balance_factors(
        reach, ones, ones, table, levels=255, weight_levels=127, depthwise=True, fixed=np.array([False, True, False])
    )
    assert kept.tolist() == [1.0, 1.0, 0.25]
    even, nothing = balance_factors(ones, ones, ones, table, levels=255, weight_levels=127, depthwise=True)
    assert even.tolist() == [1.0, 1.0, 1.0] and nothing == 0.0


@pytest.mark.parametrize(
    ("size", "taps", "options", "shares"),
    [
        (4, 3, {"stride": 1, "dilation": 1, "before": 1, "after": 1}, [0.75, 1.0, 0.75]),
        (4, 3, {"stride": 2, "dilation": 1, "before": 0, "after": 1}, [1.0, 1.0, 0.5]),
        (5, 3, {"stride": 1, "dilation": 2, "before": 2, "after": 2}, [0.6, 1.0, 0.6]),
        (8, 3, {"stride": 1, "dilation": 1, "before": 0, "after": 0}, [1.0, 1.0, 1.0]),
    ],
)
def test_taps_in_the_padding_add_nothing(size: int, taps: int, options: dict[str, int], shares: list[float]) -> None:
    assert tap_coverage(size, taps, **options).tolist() == shares
