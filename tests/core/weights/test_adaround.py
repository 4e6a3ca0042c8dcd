from __future__ import annotations

import itertools

import numpy as np
import pytest

from fewbit.core.affine import dequantize, quantize
from fewbit.core.weights.adaround import adaround
from fewbit.core.weights.descent import coordinate_descent, output_error
from fewbit.core.weights.scales import weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, UINT4, QParams, QSpec
from tests.core.weights.layers import gram_of, heavy

SPECS = [QSpec(INT4, ()), QSpec(INT4, (1, -1), narrow=True), QSpec(UINT4, (1, 7), symmetric=False)]


def loss(w: np.ndarray, q: np.ndarray, params: QParams, gram: np.ndarray) -> np.ndarray:
    return output_error(dequantize(q, params) - w, gram)


def test_literal_integers() -> None:
    # All inputs are equal, so that only the sum of a row counts: 1.2, 2.0 and -1.2 steps.
    params = QParams(QSpec(INT8), np.float32(0.5), np.int32(0))
    w = np.array([[0.2, 0.2, 0.2], [0.2, 0.45, 0.35], [-0.2, -0.2, -0.2]], np.float32)
    found = adaround(w, params, np.ones((3, 3)), iterations=300)
    assert found.sum(1).tolist() == [1, 2, -1]
    assert quantize(w, params).sum(1).tolist() == [0, 2, 0]


def test_against_all_roundings() -> None:
    """Near the best of all 2^9 roundings on average, and the best itself for most rows.

    Other seeds give 3 to 8 % above it and the best for 60 to 85 % of the rows; descent alone 18 to 32 %, nearest
    rounding 77 to 115 %.
    """
    random = np.random.default_rng(0)
    ratios, plain = [], []
    for _ in range(6):
        w, gram = heavy(random, (8, 9)), gram_of(random, 9)
        params = weight_params(w, SPECS[1], method="absmax")
        low = np.floor(w / params.scale)
        corners = np.array(list(itertools.product((0, 1), repeat=9)))
        best = np.full(len(w), np.inf)
        for corner in corners:
            best = np.minimum(best, loss(w, np.clip(low + corner, -7, 7), params, gram))
        ratios.append(loss(w, adaround(w, params, gram, iterations=500), params, gram) / best)
        plain.append(loss(w, quantize(w, params), params, gram) / best)
    assert np.mean(plain) > 1.5  # there is something to find
    assert np.mean(ratios) < 1.06
    assert np.mean(np.array(ratios) < 1 + 1e-6) > 0.75


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_better_than_descent_alone_and_never_worse_than_nearest(spec: QSpec) -> None:
    random = np.random.default_rng(1)
    w, gram = heavy(random, (16, 60)), gram_of(random, 60)
    params = weight_params(w, spec)
    nearest = quantize(w, params)
    found = adaround(w, params, gram, iterations=500)
    assert found.dtype == spec.dtype.storage and found.min() >= spec.qmin and found.max() <= spec.qmax
    assert (loss(w, found, params, gram) <= loss(w, nearest, params, gram)).all()
    descended = coordinate_descent(w, nearest, params, gram)
    assert loss(w, found, params, gram).sum() < 0.97 * loss(w, descended, params, gram).sum()


def test_independent_inputs_leave_nearest_rounding() -> None:
    w = heavy(np.random.default_rng(2), (8, 40))
    params = weight_params(w, SPECS[2])
    assert np.array_equal(adaround(w, params, np.eye(40), iterations=200), quantize(w, params))


def test_the_result_depends_neither_on_the_scale_of_gram_nor_of_w() -> None:
    random = np.random.default_rng(3)
    w, gram = heavy(random, (8, 40)), gram_of(random, 40)
    params = weight_params(w, SPECS[1])
    first = adaround(w, params, gram, iterations=200)
    assert np.array_equal(adaround(w, params, gram * 2.0**30, iterations=200), first)
    rows = 2.0 ** np.arange(-4, 4, dtype=np.float32)[:, None]
    stretched = QParams(params.spec, params.scale * rows, params.zero_point)
    assert np.array_equal(adaround(w * rows, stretched, gram, iterations=200), first)
    assert not np.array_equal(first, quantize(w, params))


def test_a_seed_gives_the_same_integers_again() -> None:
    random = np.random.default_rng(4)
    w, gram = heavy(random, (4, 30)), gram_of(random, 30)
    params = weight_params(w, SPECS[0])
    assert np.array_equal(*(adaround(w, params, gram, iterations=100, seed=7) for _ in range(2)))


def test_inputs_that_are_always_zero_are_rounded_to_nearest() -> None:
    w = heavy(np.random.default_rng(5), (4, 12))
    params = weight_params(w, SPECS[1])
    assert np.array_equal(adaround(w, params, np.zeros((12, 12)), iterations=50), quantize(w, params))


def test_what_does_not_fit_is_refused() -> None:
    w = np.ones((2, 3), np.float32)
    params = weight_params(w, SPECS[0])
    with pytest.raises(InputError, match=r"must be \(3, 3\)"):
        adaround(w, params, np.eye(4))
    with pytest.raises(InputError, match=r"within 0\.\.1, not 1\.5"):
        adaround(w, params, np.eye(3), start=1.5)
    with pytest.raises(InputError, match="NaN"):
        adaround(w * np.float32(np.nan), params, np.eye(3))
