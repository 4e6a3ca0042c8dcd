"""Verdicts, their words, and how many samples would decide."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewbit.measure.metrics import resolve_metric
from fewbit.measure.paired import Drop, judge, paired_drop
from fewbit.measure.paired.tango import lower_bound, upper_bound
from fewbit.measure.paired.verdict import confident


def answers(worse: int, better: int, count: int) -> Drop:
    """The drop of `top1` with so many flips; all other answers right."""
    labels = [0] * count
    right, wrong = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    quantized = [[wrong if i < worse else right] for i in range(count)]
    real = [[wrong if worse <= i < worse + better else right] for i in range(count)]
    return paired_drop(resolve_metric("top1"), quantized, real, labels)


def resampled(limit: float, scale: float = 1.0) -> Drop:
    """The drop of a mean of 400 values, 0.1·scale by design."""
    random = np.random.default_rng(0)
    base = random.standard_normal(400)
    loss = random.standard_normal(400)
    loss = (loss - loss.mean()) / loss.std() + 0.1
    real, quantized = [[b[None]] for b in base], [[b[None]] for b in base - scale * loss]
    return paired_drop(resolve_metric(lambda o, _: [first[0] for first, *_ in o]), quantized, real, [0] * 400)


def test_pass_fail_and_undecided() -> None:
    drop = answers(20, 5, 1000)
    assert drop.drop == pytest.approx(0.015)
    assert judge(drop, 0.03).kind == "pass"
    assert judge(drop, 0.005).kind == "fail"
    assert judge(drop, drop.upper).kind == "pass"
    assert judge(drop, drop.lower).kind == "undecided"
    assert judge(drop, 0.02).kind == "undecided"


def test_words() -> None:
    drop = answers(20, 5, 1000)
    assert judge(drop, 0.03).sentence() == (
        "pass: top1 is 1.5 points worse on 1000 samples, and with 95% confidence at most 2.42 points worse; "
        "the limit is 3 points"
    )
    assert judge(drop, 0.005).sentence() == (
        "fail: top1 is 1.5 points worse on 1000 samples, and with 95% confidence at least 0.711 points worse; "
        "the limit is 0.5 points"
    )
    assert judge(answers(0, 0, 50), 0.001).sentence() == (
        "undecided: top1 is unchanged on 50 samples, and anything from -5.13 points to 5.82 points worse is possible "
        "(each bound with 95% confidence); the limit is 0.1 points, and about 2995 samples would decide"
    )
    assert "no number of samples would decide" in judge(answers(20, 5, 1000), 0.015).sentence()
    found = json.loads(json.dumps(judge(drop, 0.03).to_dict(), allow_nan=False))
    assert found["kind"] == "pass" and found["drop"]["flips_worse"] == 20


def test_no_change_on_few_samples_does_not_pass_a_tight_limit() -> None:
    verdict = judge(answers(0, 0, 50), 0.001)
    assert verdict.kind == "undecided" and verdict.needed == 2995  # ln 0.05 / ln 0.999 = 2994.2
    assert judge(answers(0, 0, 2995), 0.001).kind == "pass"
    assert judge(answers(0, 0, 2994), 0.001).kind == "undecided"


@pytest.mark.parametrize(("worse", "better", "limit"), [(8, 3, 0.01), (12, 4, 0.004)])
def test_the_needed_samples_would_decide(worse: int, better: int, limit: float) -> None:
    drop = answers(worse, better, 1000)
    needed = judge(drop, limit).needed
    assert needed is not None and needed > 1000
    for n, decides in ((needed, True), (needed - 2, False)):
        b, c = worse * n / 1000, better * n / 1000
        passes = upper_bound(b, c, n, 0.95) <= limit
        fails = lower_bound(b, c, n, 0.95) > limit
        assert (passes or fails) is decides


def test_half_widths_shrink_with_the_root_of_the_samples() -> None:
    drop = resampled(0.15)
    assert drop.drop == pytest.approx(0.1)
    verdict = judge(drop, 0.15)
    assert verdict.kind == "undecided" and verdict.needed is not None
    assert verdict.needed == pytest.approx(400 * ((drop.upper - 0.1) / 0.05) ** 2, abs=1)
    assert judge(drop, drop.drop).needed is None
    below = judge(drop, 0.05)
    assert below.needed == pytest.approx(400 * ((0.1 - drop.lower) / 0.05) ** 2, abs=1)


def test_what_is_unknown_is_undecided() -> None:
    zeros = [[np.zeros(1)]] * 100
    verdict = judge(paired_drop(resolve_metric("rmse"), zeros, zeros, [0.0] * 100), 0.1)
    assert verdict.kind == "undecided" and verdict.needed is None
    assert "do not tell how many" in verdict.sentence()


def test_a_mean_without_any_change_needs_samples_as_the_share_does() -> None:
    values = [[np.array([float(i % 2) + 0.5])] for i in range(100)]
    metric = resolve_metric(lambda o, _: [first[0] for first, *_ in o])
    verdict = judge(paired_drop(metric, values, values, [0] * 100), 0.01)
    assert verdict.kind == "undecided" and verdict.needed == 296  # (1 − 0.05^(1/100)) · 1 · 100 / 0.01 = 295.1
    assert judge(paired_drop(metric, values * 3, values * 3, [0] * 300), 0.01).kind == "pass"


def test_a_confidence_is_not_rounded_to_certainty() -> None:
    assert [confident(c) for c in (0.95, 0.96, 0.995, 0.9975)] == ["95%", "96%", "99.5%", "99.75%"]


def test_what_got_better_is_no_worse() -> None:
    sentence = judge(answers(0, 60, 1000), 0.005).sentence()
    assert "is 6 points better on 1000 samples, and with 95% confidence no worse; the limit is 0.5 points" in sentence
