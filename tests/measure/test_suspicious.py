"""Shuffled labels are noticed, and good ones are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.measure.metrics import Metric, resolve_metric
from fewbit.measure.suspicious import suspicious

RANDOM = np.random.default_rng(0)
LABELS = [int(i) for i in RANDOM.integers(0, 2, 200)]
SCORES = [[np.array([[0.0, label + RANDOM.standard_normal()]])] for label in LABELS]
SHUFFLED = [int(i) for i in np.random.default_rng(1).permutation(LABELS)]


def error(outputs: Any, labels: Any) -> float:
    return float(np.mean([(first.argmax() != label) for (first, *_), label in zip(outputs, labels, strict=True)]))


@pytest.mark.parametrize("name", ["auc", "spearman", "top1"])
def test_labels_that_fit_are_left_alone_and_shuffled_ones_are_noticed(name: str) -> None:
    scores = [[first - np.array([[0.0, 0.5]])] for first, *_ in SCORES]
    if name == "spearman":
        scores = [[first[:, 1]] for first, *_ in scores]
    metric = resolve_metric(name)
    assert suspicious(metric, scores, LABELS) is None
    reason = suspicious(metric, scores, SHUFFLED)
    assert reason is not None and "labels do not belong" in reason and f"metric {name}" in reason


def test_lower_may_be_better() -> None:
    scores = [[first - np.array([[0.0, 0.5]])] for first, *_ in SCORES]
    assert suspicious(Metric("e", error, higher_is_better=False), scores, LABELS) is None
    assert suspicious(Metric("e", error, higher_is_better=False), scores, SHUFFLED) is not None
    reason = suspicious(Metric("e", error), scores, LABELS)
    assert reason is not None and "or lower is better and the metric does not say so" in reason


def test_a_metric_that_does_not_read_labels_says_nothing() -> None:
    reason = suspicious(Metric("one", lambda o, _: 1.0), SCORES, LABELS)
    assert reason == "metric one is 1 whichever sample has which label: it says nothing of the model"


def test_labels_of_other_shapes_are_not_exchanged() -> None:
    outputs = [[np.eye(3)[np.arange(size) % 3]] for size in [2, 3] * 30]
    labels = [np.arange(size) % 3 for size in [2, 3] * 30]
    assert suspicious(resolve_metric("top1"), outputs, [np.roll(label, 1) for label in labels]) is not None
    assert suspicious(resolve_metric("top1"), [outputs[0], outputs[1]], [labels[0], labels[1]]) is None


def test_what_cannot_be_told_is_not_suspicious() -> None:
    assert suspicious(resolve_metric("agreement"), SCORES, LABELS) is None
    assert suspicious(resolve_metric("top1"), SCORES, [None] * 200) is None
    assert suspicious(resolve_metric("auc"), SCORES, [1] * 200) is None  # not a number


def test_slow_metrics_see_fewer_samples() -> None:
    sizes: list[int] = []

    def counting(outputs: Any, labels: Any) -> float:
        sizes.append(len(outputs))
        return 1 - error(outputs, labels)

    assert suspicious(Metric("c", counting), SCORES, SHUFFLED, seconds=0.0) is not None
    assert sizes[-1] == 50
