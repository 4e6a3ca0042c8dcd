"""Moments of clipped normal values, against integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from fewbit.core.normal import Normal, clipped


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.0, 6.0), (-np.inf, 1.0), (-1.0, 0.5), (-np.inf, np.inf)])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.5, 0.7), (-3.0, 2.0), (7.0, 1.5)])
def test_moments_are_those_of_the_integral(bounds: tuple[float, float], mean: float, std: float) -> None:
    def moment(power: int) -> float:
        def value(x: float) -> float:
            return float(np.clip(x, *bounds) ** power * norm.pdf(x, mean, std))

        points = [b for b in bounds if abs(b - mean) < 9 * std]
        return float(quad(value, mean - 10 * std, mean + 10 * std, points=points or None, limit=200)[0])

    result = clipped(Normal(np.array([mean]), np.array([std])), *bounds)
    assert result.mean[0] == pytest.approx(moment(1), abs=1e-7)
    assert result.std[0] == pytest.approx(np.sqrt(moment(2) - moment(1) ** 2), abs=1e-6)


def test_constant_channels_are_clipped_as_numbers() -> None:
    result = clipped(Normal(np.array([-1.0, 2.0, 9.0]), np.zeros(3)), 0.0, 6.0)
    assert result.mean.tolist() == [0.0, 2.0, 6.0]
    assert result.std.tolist() == [0.0, 0.0, 0.0]
