"""Early stops: how often they are wrong, and how early they come."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.measure.metrics import resolve_metric
from fewbit.measure.paired import hopeless, unit_losses
from fewbit.measure.paired.hopeless import spent

LOOKS = (50, 100, 200, 400, 700, 1000)


def stops_at(losses: np.ndarray, limit: float) -> int | None:
    for before, seen in zip((0, *LOOKS), LOOKS, strict=False):
        if hopeless(losses[:seen], limit, planned=LOOKS[-1], seen=seen, before=before):
            return seen
    return None


def flips(random: np.random.Generator, worse: float, better: float) -> np.ndarray:
    return random.choice([1.0, -1.0, 0.0], LOOKS[-1], p=[worse, better, 1 - worse - better])


@pytest.mark.parametrize(("worse", "better"), [(0.01, 0.0), (0.02, 0.01), (0.06, 0.05)])
def test_candidates_at_the_limit_are_seldom_stopped(worse: float, better: float) -> None:
    random = np.random.default_rng(0)
    stopped = sum(stops_at(flips(random, worse, better), 0.01) is not None for _ in range(2000))
    assert stopped <= 20  # 1 % of 2000


@pytest.mark.parametrize("kind", ["normal", "rarely much worse", "rarely much better"])
def test_values_at_the_limit_are_seldom_stopped(kind: str) -> None:
    random = np.random.default_rng(0)
    sign = {"normal": 0, "rarely much worse": 1, "rarely much better": -1}[kind]
    stopped = 0
    for _ in range(2000):
        skewed = sign * (random.exponential(size=LOOKS[-1]) - 1)
        losses = 0.01 + (skewed if sign else random.standard_normal(LOOKS[-1]))
        stopped += stops_at(losses, 0.01) is not None
    assert stopped <= 29  # 1 % of 2000 and two standard errors; Student's statistic alone stops 45 of the last kind


def test_hopeless_candidates_stop_at_once() -> None:
    random = np.random.default_rng(0)
    assert stops_at(flips(random, 0.6, 0.05), 0.01) == 50
    assert stops_at(2 + random.standard_normal(1000), 0.01) == 50
    found = [stops_at(flips(random, 0.10, 0.02), 0.01) for _ in range(50)]
    assert np.median([f or 9999 for f in found]) <= 400


def test_the_risk_is_spent_once() -> None:
    shares = np.linspace(0, 1, 11)
    parts = np.diff([spent(s, 0.01) for s in shares])
    assert parts.sum() == pytest.approx(0.01) and (parts > 0).all()
    losses = np.r_[np.ones(60), np.zeros(40)]
    assert hopeless(losses, 0.01, planned=200, seen=100)
    assert not hopeless(
        losses, 0.01, planned=200, seen=100, before=100
    )  # nothing is left for a second look at the same samples
    assert not hopeless(np.zeros(100), 0.0, planned=100, seen=100)
    assert not hopeless(np.full(10, 0.5), 0.0, planned=100, seen=100)  # too few to tell


def test_groups_are_judged_as_the_samples_they_hold() -> None:
    random = np.random.default_rng(0)
    labels = [int(i) for i in random.integers(0, 2, 400)]
    real = [[np.array([label + 0.3 * random.standard_normal()])] for label in labels]
    broken = [[first + 3 * random.standard_normal(1)] for first, *_ in real]
    same = [[first + 0.01 * random.standard_normal(1)] for first, *_ in real]
    metric = resolve_metric("auc")
    assert hopeless(unit_losses(metric, broken, real, labels), 0.02, planned=4000, seen=400)
    assert not hopeless(unit_losses(metric, same, real, labels), 0.02, planned=4000, seen=400)


def test_losses_of_samples() -> None:
    random = np.random.default_rng(1)
    labels = [int(i) for i in random.integers(0, 2, 150)]
    real = [[np.array([label + random.standard_normal()])] for label in labels]
    quantized = [[first + 0.5 * random.standard_normal(1)] for first, *_ in real]
    for name in ("auc", "rmse", "spearman"):
        metric = resolve_metric(name)
        losses = unit_losses(metric, quantized, real, labels)
        lost = metric(real, labels) - metric(quantized, labels)
        assert losses.shape == (50,)
        assert losses.mean() == pytest.approx(lost if metric.higher_is_better else -lost, abs=2e-3)
    scores = [[np.array([[1 - first[0], first[0]]])] for first, *_ in quantized]
    right = [[np.array([[1.0 - label, float(label)]])] for label in labels]
    found = unit_losses(resolve_metric("top1"), scores, right, labels)
    assert set(found.tolist()) == {0.0, 1.0}
    assert found.tolist() == unit_losses(resolve_metric("agreement"), scores, right, [None] * 150).tolist()
