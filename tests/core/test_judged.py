"""The choice between candidates by their errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.ranges.judged import PLAIN, best_candidate, centred_error


@given(st.integers(1, 6), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_centred_error_is_what_remains_of_the_errors(channels: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    errors, known = random.standard_normal((channels, count)), random.standard_normal(channels)
    expected = ((errors - known[:, None]) ** 2).mean()
    assert centred_error(errors.mean(1), (errors**2).mean(), known) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("chosen_by", "held_back", "best"),
    [
        ([1.0, 0.5, 0.6], [1.0, 0.5, 0.4], 1),  # the least on the samples that choose
        ([1.0, 0.5, 0.6], [1.0, 1.1, 0.4], PLAIN),  # worse on the others: the second best is not tried
        ([1.0, 0.9, 2.0], [1.0, 0.95, 2.0], PLAIN),  # 0.2 dB
        ([1.0, np.nan, 0.5], [1.0, np.nan, 0.5], 2),
        ([0.0, 0.0], [0.0, 0.0], PLAIN),
        ([1.0, 0.0], [1.0, 0.0], 1),
    ],
)
def test_the_best_candidate_is_confirmed(chosen_by: list[float], held_back: list[float], best: int) -> None:
    assert best_candidate(np.array(chosen_by), np.array(held_back)) == best
