from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.affine import fake_quantize
from fewbit.core.weights.awq import awq_factors
from fewbit.core.weights.descent import output_error
from fewbit.core.weights.scales import WeightRange, weight_params
from fewbit.errors import InputError
from fewbit.spec import INT4, INT8, QSpec
from tests.core.weights.layers import heavy

SPECS = [QSpec(INT4, (1, -1), narrow=True), QSpec(INT4, (1, 16), narrow=True), QSpec(INT8, ())]


def loss(w: np.ndarray, factors: np.ndarray, spec: QSpec, gram: np.ndarray, method: WeightRange = "absmax") -> float:
    scaled = w * factors
    error = fake_quantize(scaled, weight_params(scaled, spec, method=method)) / factors - w
    return float(output_error(error, gram).sum())


def inputs(seed: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight, and Gram matrix and means of inputs some of which are much larger."""
    random = np.random.default_rng(seed)
    x = np.maximum(random.standard_normal((400, 48)), 0.0) * random.lognormal(0.0, spread, 48)
    return heavy(random, (16, 48)), x.T @ x / 400, np.abs(x).mean(0)


@pytest.mark.parametrize("method", ["absmax", "mse"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_never_worse_and_the_best_of_the_grid(spec: QSpec, spread: float, method: WeightRange) -> None:
    w, gram, means = inputs(0, spread)
    factors = awq_factors(w, gram, spec, means, grid=10, method=method)
    assert factors.dtype == np.float32 and factors.shape == (48,) and (factors > 0).all()
    assert factors.max() * factors.min() == pytest.approx(1.0, rel=1e-5)
    trials = []
    for alpha in np.arange(11) / 10:
        powers = means**alpha
        trials.append(loss(w, (powers / np.sqrt(powers.max() * powers.min())).astype(np.float32), spec, gram, method))
    assert loss(w, factors, spec, gram, method) == pytest.approx(min(trials), rel=1e-3)
    if spread and method == "absmax":
        assert min(trials) < 0.8 * trials[0]


def test_literal_factors() -> None:
    # Only the first input is on, and 100 times as large. At α = 1 its weight grows from 0.04 to 0.4 while the other
    # shrinks from 1 to 0.1, and so becomes the largest, which is exact.
    w = np.array([[0.04, 1.0]], np.float32)
    gram = np.diag([1e4, 1e-6])
    found = awq_factors(w, gram, SPECS[0], np.array([100.0, 1.0]), grid=1)
    assert found.tolist() == [10.0, pytest.approx(0.1)]


def test_without_a_gain_nothing_is_scaled() -> None:
    w, gram, _ = inputs(1, 0.0)
    assert awq_factors(w, gram, SPECS[0], np.full(48, 3.0)).tolist() == [1.0] * 48
    for means in (np.zeros(48), np.arange(48.0)):
        assert awq_factors(w, np.zeros((48, 48)), SPECS[0], means).tolist() == [1.0] * 48


def test_an_input_that_is_never_on_does_not_stretch_the_others_without_end() -> None:
    w, gram, means = inputs(2, 1.0)
    means[5], gram[5], gram[:, 5] = 0.0, 0.0, 0.0
    factors = awq_factors(w, gram, SPECS[0], means)
    assert loss(w, factors, SPECS[0], gram) < 0.9 * loss(w, np.ones(48, np.float32), SPECS[0], gram)
    w = np.array([[0.04, 1.0, 1.0]], np.float32)
    factors = awq_factors(w, np.diag([1e4, 1e-6, 0.0]), SPECS[0], np.array([100.0, 1.0, 0.0]), grid=1)
    assert factors.tolist() == [pytest.approx(100.0), pytest.approx(1.0), pytest.approx(0.01)]  # 0 counts as 0.01


def test_scales_of_gram_and_means_do_not_matter() -> None:
    w, gram, means = inputs(3, 1.0)
    first = awq_factors(w, gram, SPECS[0], means)
    assert (first != 1.0).any()
    assert np.array_equal(awq_factors(w, gram * 2.0**40, SPECS[0], means * 2.0**20), first)


def test_what_does_not_fit_is_refused() -> None:
    w, gram, means = inputs(4, 0.0)
    with pytest.raises(InputError, match=r"must be \(48, 48\)"):
        awq_factors(w, gram[:4, :4], SPECS[0], means)
    with pytest.raises(InputError, match=r"must have the shape \(48,\)"):
        awq_factors(w, gram, SPECS[0], means[:4])
    with pytest.raises(InputError, match="finite means ≥ 0"):
        awq_factors(w, gram, SPECS[0], -means)
    with pytest.raises(InputError, match="at least 1 step, not 0"):
        awq_factors(w, gram, SPECS[0], means, grid=0)
