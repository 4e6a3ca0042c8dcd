"""Tango's interval against published figures, and how often it holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from fewbit.measure.paired.tango import lower_bound, mcnemar, score, score_bound, share_bound, upper_bound


def interval(worse: int, better: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    both = (1 + confidence) / 2
    return -score_bound(better, worse, count, both), score_bound(worse, better, count, both)


@pytest.mark.parametrize(
    ("worse", "better", "count", "low", "high"),
    [
        # Fagerland, Lydersen and Laake (2014, Statistics in Medicine 33), tables of Bentur et al. 2009 and Cavo et al. 2012.
        (1, 7, 21, -0.517, -0.026),
        (6, 16, 161, -0.124, -0.0054),
    ],
)
def test_published_intervals(worse: int, better: int, count: int, low: float, high: float) -> None:
    found = interval(worse, better, count)
    assert found == pytest.approx((low, high), abs=5e-4)


def test_without_improvements_it_is_the_interval_of_wilson() -> None:
    from scipy.stats import binomtest

    wilson = binomtest(7, 90).proportion_ci(0.95, "wilson")
    assert interval(7, 0, 90)[1] == pytest.approx(wilson.high, abs=1e-9)


def test_no_change_bounds_the_drop_by_the_rule_of_three() -> None:
    assert score_bound(0, 0, 1000, 0.95) == pytest.approx(2.7055 / 1002.7055, rel=1e-4)
    assert upper_bound(0, 0, 1000, 0.95) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert upper_bound(0, 0, 1000, 0.95) == pytest.approx(3 / 1000, rel=5e-3)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.floats(0.6, 0.999))
def test_the_bound_is_where_the_score_is_z(worse: int, better: int, rest: int, confidence: float) -> None:
    from scipy.special import ndtri

    count = worse + better + rest
    if count < 2 or worse == count:
        return
    bound = score_bound(worse, better, count, confidence)
    assert (worse - better) / count <= bound <= 1
    assert score(bound, worse, better, count) == pytest.approx(-ndtri(confidence), abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 200))
def test_more_confidence_and_more_losses_move_the_bound_up(worse: int, better: int, rest: int) -> None:
    count = worse + better + rest
    assert upper_bound(worse, better, count, 0.9) < upper_bound(worse, better, count, 0.99)
    assert score_bound(worse, better, count, 0.95) < score_bound(worse + 1, better, count, 0.95)


def outcomes(count: int, p_worse: float, p_better: float) -> list[tuple[int, int, float]]:
    """(worse, better, chance) of all results that matter."""
    most_worse, most_better = (int(count * p + 8 * np.sqrt(count * p) + 8) for p in (p_worse, p_better))
    pairs = [(b, c) for b in range(min(count, most_worse) + 1) for c in range(min(count - b, most_better) + 1)]
    table = np.array([(b, c, count - b - c) for b, c in pairs])
    chances = multinomial(count, [p_worse, p_better, 1 - p_worse - p_better]).pmf(table)
    return [(b, c, float(p)) for (b, c), p in zip(pairs, chances, strict=True)]


@pytest.mark.parametrize(("count", "p_worse", "p_better"), [(100, 0.05, 0.03), (100, 0.1, 0.02), (400, 0.02, 0.01)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(count: int, p_worse: float, p_better: float) -> None:
    held = sum(
        chance
        for b, c, chance in outcomes(count, p_worse, p_better)
        if chance > 1e-9 and interval(b, c, count)[0] <= p_worse - p_better <= interval(b, c, count)[1]
    )
    assert 0.94 < held < 0.97


@pytest.mark.parametrize(
    ("count", "limit", "p_better"),
    [
        (50, 0.02, 0.0),
        (100, 0.01, 0.01),
        (200, 0.0135, 0.0),
        (1000, 0.0028, 0.0),
        (400, 0.01, 0.02),
        (1000, 0.0028, 1e-4),
    ],
)
def test_a_drop_at_the_limit_passes_one_time_of_twenty_at_most(count: int, limit: float, p_better: float) -> None:
    """Exact chances, not simulated ones; Tango's bound alone passes 6.6 % of 1000 samples at a limit of 0.0028."""
    passes = sum(
        chance
        for b, c, chance in outcomes(count, limit + p_better, p_better)
        if chance > 1e-9 and upper_bound(b, c, count, 0.95) <= limit
    )
    assert passes < 0.055


@pytest.mark.parametrize(
    ("count", "limit", "p_better"), [(100, 0.0311, 0.0052), (200, 0.0152, 0.0032), (1000, 0.003, 0.0004)]
)
def test_a_drop_at_the_limit_seldom_fails(count: int, limit: float, p_better: float) -> None:
    """Where Tango's bound alone fails 9 to 10 %."""
    rates = []
    for bound in (lower_bound, lambda b, c, n, confidence: -score_bound(c, b, n, confidence)):
        likely = [o for o in outcomes(count, limit + p_better, p_better) if o[2] > 1e-9]
        rates.append(sum(chance for b, c, chance in likely if bound(b, c, count, 0.95) >= limit))
    assert rates[0] < 0.05 and 0.088 < rates[1] < 0.1


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 200), st.floats(0.6, 0.999))
def test_the_lower_bound_is_that_of_tango_or_less(worse: int, better: int, rest: int, confidence: float) -> None:
    count = max(worse + better + rest, 2)
    bound, plain = lower_bound(worse, better, count, confidence), -score_bound(better, worse, count, confidence)
    assert bound <= plain and (bound == plain or bound > 0)


def test_exact_tests() -> None:
    assert mcnemar(6, 16) == pytest.approx(0.052479, abs=1e-6)  # Cavo et al. 2012, as in Fagerland et al. 2014
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 / 32)
    assert share_bound(0, 10, 0.95) == pytest.approx(0.2589, abs=1e-4)  # Clopper and Pearson
    assert share_bound(10, 10, 0.95) == 1.0
