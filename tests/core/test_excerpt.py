from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.core.excerpt import Excerpt
from fewbit.core.histogram import Histogram
from fewbit.spec import UINT8, QParams, QSpec

UNSIGNED = QSpec(UINT8, symmetric=False)
WHOLE = params_from_range(0.0, 255.0, UNSIGNED)  # scale 1, zero point 0: rounds, and clips what is negative


def excerpt(axis: int | None, *samples: np.ndarray, start: int = 0, step: int = 1) -> Excerpt:
    made = Excerpt(axis)
    for x in samples:
        made.add(x.reshape(1, -1)[:, start::step], x.shape, start, step)
    return made


def test_shifts_of_each_channel() -> None:
    x = np.array([[[-4.0, -2.0, 3.0], [1.25, 2.25, 7.0]]], np.float32)  # (1, 2, 3)
    assert excerpt(1, x).shifts(WHOLE).tolist() == [
        2.0,
        pytest.approx(-0.5 / 3),
    ]  # (4 + 2 + 0) / 3; two quarters are lost
    assert excerpt(-1, x).shifts(WHOLE).tolist() == [1.875, 0.875, 0.0]
    assert excerpt(None, x).shifts(WHOLE).tolist() == [pytest.approx(5.5 / 6)]


def test_shifts_are_in_the_units_of_the_undivided_value() -> None:
    x = np.array([[[8.0, 2.0], [3.0, 5.0]]], np.float32)
    # 8 / 4 and 2 / 4 become 2 and 0 (ties to even), 3 / 2 and 5 / 2 become 2 and 2: times 4 and 2, -2 and 1 - 1.
    assert excerpt(1, x).shifts(WHOLE, np.array([4.0, 2.0], np.float32)).tolist() == [-1.0, 0.0]


def test_samples_count_alike_whatever_their_size_and_what_varies_between_them_is_noise() -> None:
    def moved(*by: float) -> list[float]:
        return excerpt(1, *(np.full((1, 1, n + 1), -x, np.float32) for n, x in enumerate(by))).shifts(WHOLE).tolist()

    assert moved(3.0, 3.0, 3.0) == [3.0]
    assert moved(2.0, 2.5) == [2.25 - 0.5**2 / 2.25]  # the standard error of the mean is a quarter
    assert moved(1.0, 3.0) == [0.0]


def test_infinite_values_do_not_move() -> None:
    x = np.array([[[-np.inf, -6.0, np.nan]]], np.float32)
    assert excerpt(1, x).shifts(WHOLE).tolist() == [2.0]


def test_no_shifts_where_the_number_of_channels_varies() -> None:
    assert excerpt(-1, np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 4), np.float32)).shifts(WHOLE) is None
    assert Excerpt(1).shifts(WHOLE) is None


@pytest.mark.parametrize(("start", "step"), [(0, 5), (3, 5), (6, 7)])
def test_strided_values_keep_their_channels(start: int, step: int) -> None:
    x = np.random.default_rng(0).uniform(-8, 8, (1, 4, 6, 9)).astype(np.float32)
    params = QParams(UNSIGNED, np.asarray(0.5, np.float32), np.asarray(3, np.int32))
    taken = np.zeros(x.size, bool)
    taken[start::step] = True
    taken = taken.reshape(x.shape)
    moved = fake_quantize(x, params) - x
    wanted = [moved[:, c][taken[:, c]].mean() for c in range(4)]
    np.testing.assert_allclose(excerpt(1, x, start=start, step=step).shifts(params), wanted, rtol=1e-5)


def test_the_histogram_is_that_of_divided_channels() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 50)).astype(np.float32)
    factors = np.array([1.0, 4.0, 0.25], np.float32)
    wanted = Histogram()
    wanted.update(x / factors[:, None])
    assert np.array_equal(excerpt(1, x).histogram(factors).counts, wanted.counts)
