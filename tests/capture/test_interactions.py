"""How errors of layers go together."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.capture.interactions import SKETCH, Interactions


@pytest.mark.parametrize("size", [40, 50 * SKETCH])
def test_cross_terms_are_those_of_the_errors(size: int) -> None:
    """Exact where outputs are kept whole; a sketch of 1024 numbers tells them to about 3 % of the errors' norms."""
    random = np.random.default_rng(0)
    kept = Interactions(0)
    reals = random.standard_normal((2, size))
    errors = 0.1 * random.standard_normal((3, 2, size))
    errors[1] = -0.9 * errors[0] + 0.1 * errors[1]  # cancels the first
    for key in range(3):
        for sample in range(2):
            kept.add(key, sample, 0, reals[sample], errors[key, sample])
    signal = (reals**2).sum()
    found = kept.cross([0, 1, 2])
    for i in range(3):
        for j in range(3):
            wanted = 0.0 if i == j else 2 * (errors[i] * errors[j]).sum() / signal
            norms = np.sqrt((errors[i] ** 2).sum() * (errors[j] ** 2).sum()) / signal
            assert found[i, j] == pytest.approx(wanted, abs=1e-12 if size <= SKETCH else 0.2 * norms)
    assert found[0, 1] < 0


def test_what_two_nodes_of_one_weight_bring_beyond_the_sum() -> None:
    kept = Interactions(0)
    real, error = np.ones(4), np.array([0.1, -0.1, 0.2, 0.0])
    for _ in range(2):
        kept.add("shared", 0, 0, real, error)
    # twice the error is four times the noise, where the sum of both is two times
    assert kept.cross(["shared"])[0, 0] == pytest.approx(2 * (error @ error) / 4)


def test_the_output_that_suffers_most_counts() -> None:
    kept = Interactions(0)
    loud, soft = 100 * np.ones(4), np.ones(4)
    error = np.array([0.1, 0.0, 0.0, 0.0])
    for key in ("a", "b"):
        kept.add(key, 0, 0, loud, error)
        kept.add(key, 0, 1, soft, -error)
    assert kept.cross(["a", "b"])[0, 1] == pytest.approx(2 * 0.01 / 4)
