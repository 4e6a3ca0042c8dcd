"""Drops of metrics of every kind: right or wrong, means, ratios, ranks and functions that only give a number."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.errors import DataError, RecipeError
from fewbit.measure.metrics import METRICS, Metric, Outputs, resolve_metric
from fewbit.measure.paired import judge, paired_drop, per_sample, takes_long, unbounded_drop

Answers = list[Outputs]


def classifier(count: int, noise: float = 0.5, seed: int = 0) -> tuple[Answers, Answers, list[int]]:
    """(quantized, float, labels) of ten classes."""
    random = np.random.default_rng(seed)
    labels = [int(label) for label in random.integers(0, 10, count)]
    real: Answers = [[np.eye(10)[[label]] * 3 + random.standard_normal((1, 10))] for label in labels]
    return [[first + noise * random.standard_normal((1, 10))] for first, *_ in real], real, labels


def accuracy(outputs: Any, labels: Any) -> float:
    return float(np.mean([int(first.argmax()) == label for (first, *_), label in zip(outputs, labels, strict=True)]))


def balanced(outputs: Any, labels: Any) -> float:
    right = np.array([int(first.argmax()) for first, *_ in outputs]) == np.asarray(labels)
    return float(np.mean([right[np.asarray(labels) == kind].mean() for kind in np.unique(labels)]))


def hits(outputs: Any, labels: Any) -> NDArray[Any]:
    return np.array([int(first.argmax()) == label for (first, *_), label in zip(outputs, labels, strict=True)])


def test_right_and_wrong_answers_are_counted() -> None:
    real: Answers = [[np.eye(2)[[0]]] for _ in range(161)]
    quantized = [list(o) for o in real]
    labels = [0] * 145 + [1] * 16
    for i in range(6):
        quantized[i] = [np.eye(2)[[1]]]  # right → wrong
    for i in range(145, 161):
        quantized[i] = [np.eye(2)[[1]]]  # wrong → right
    drop = paired_drop(resolve_metric("top1"), quantized, real, labels)
    assert (drop.flips_worse, drop.flips_better, drop.changed, drop.samples) == (6, 16, 22, 161)
    assert (drop.baseline, drop.value, drop.drop) == pytest.approx((145 / 161, 155 / 161, -10 / 161))
    assert (drop.low, drop.high) == pytest.approx((-0.1240, -0.0054), abs=1e-4)  # as in test_tango.py
    assert drop.low < drop.lower < drop.drop < drop.upper < drop.high
    assert drop.p_value == pytest.approx(0.052479, abs=1e-6)


def test_a_function_that_is_an_accuracy_is_recognized() -> None:
    quantized, real, labels = classifier(120)
    wanted = paired_drop(resolve_metric("top1"), quantized, real, labels)
    for function in (accuracy, hits):
        found = paired_drop(resolve_metric(function), quantized, real, labels)
        assert (found.lower, found.upper, found.flips_worse) == (wanted.lower, wanted.upper, wanted.flips_worse)


def test_what_is_no_mean_of_samples_is_not_taken_for_one() -> None:
    quantized, _, labels = classifier(120)
    values = per_sample(resolve_metric(accuracy), quantized, labels)
    assert values is not None and values.tolist() == hits(quantized, labels).tolist()
    assert per_sample(resolve_metric(balanced), quantized, labels) is None

    def area(outputs: Any, wanted: Any) -> float:
        return resolve_metric("auc")(outputs, wanted)  # fails on a single sample

    assert per_sample(resolve_metric(area), quantized, [label % 2 for label in labels]) is None
    assert per_sample(resolve_metric("auc"), quantized, [label % 2 for label in labels]) is None


def test_halves_tell_a_mean_over_classes_from_one_over_samples() -> None:
    labels = [0, 1] * 30  # as many of each, in the first eight too: both means are the same
    outputs: Answers = [[np.eye(2)[[0]]] for _ in labels]
    assert balanced(outputs, labels) == accuracy(outputs, labels) == 0.5
    assert per_sample(resolve_metric(balanced), outputs, labels) is None


def test_positions_of_a_sample_count_together() -> None:
    metric = resolve_metric("agreement")
    assert metric.each is not None
    rows = metric.each([[np.eye(3)]], [[np.eye(3)[[0, 1, 1]]]])
    assert rows is not None and rows.tolist() == [1.0, 1.0, 0.0]
    positions = metric.each([[np.eye(3)[None]]], [[np.eye(3)[None, [0, 1, 1]]]])
    assert positions is not None and positions.tolist() == [[2.0, 3.0]]


def test_batches_of_other_sizes_are_no_mean_of_samples() -> None:
    def rows(outputs: Any, labels: Any) -> float:
        right = [first.argmax(-1) == label for (first, *_), label in zip(outputs, labels, strict=True)]
        return float(np.concatenate(right).mean())

    sizes = [1, 3] * 20
    outputs: Answers = [[np.eye(3)[np.arange(size) % 3]] for size in sizes]
    labels = [np.zeros(size, int) for size in sizes]
    assert per_sample(resolve_metric(rows), outputs, labels) is None
    equal = [[np.eye(3)]] * 4
    values = per_sample(resolve_metric(rows), equal, [np.zeros(3, int)] * 4)
    assert values is not None and values.tolist() == [1 / 3] * 4
    known = per_sample(resolve_metric("top1"), outputs, labels)
    assert known is not None and len(known) == 80  # top1 knows that rows are samples


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"cer", "wer", "map", "sqnr"}))
def test_parts_give_the_metric_and_bounds_hold_it(name: str) -> None:
    quantized, real, labels = classifier(80)
    wanted: list[Any] = {"auc": [label % 2 for label in labels], "rmse": [np.eye(10)[[label]] for label in labels]}.get(
        name, labels
    )
    if name == "perplexity":
        wanted = [[label] for label in labels]
    metric = resolve_metric(name)
    drop = paired_drop(metric, quantized, real, wanted)
    against = real if metric.against == "baseline" else wanted
    value, baseline = metric(quantized, against), metric(real, against)
    assert (drop.value, drop.baseline) == (value, baseline)
    assert drop.drop == pytest.approx(baseline - value if metric.higher_is_better else value - baseline)
    assert drop.low < drop.lower < drop.drop < drop.upper < drop.high


def test_error_rates_are_ratios() -> None:
    pytest.importorskip("rapidfuzz")
    texts = ["kitten", "sitting", "bat", "house", "cat", "a longer text"] * 10
    real: Answers = [[np.array([text])] for text in texts]
    worse: Answers = [[np.array([text[:-1] if i % 3 else text])] for i, text in enumerate(texts)]
    drop = paired_drop(resolve_metric("cer"), worse, real, texts)
    assert drop.drop == pytest.approx(40 / sum(map(len, texts))) and 0 < drop.lower < drop.drop < drop.upper
    assert drop.changed == 40 and drop.flips_worse is None and drop.p_value is None


def test_bounds_of_a_function_are_those_of_the_metric_it_repeats() -> None:
    quantized, real, labels = classifier(60)
    wanted = [label % 2 for label in labels]
    own = resolve_metric(resolve_metric("auc").compute)
    found, known = (paired_drop(m, quantized, real, wanted) for m in (own, resolve_metric("auc")))
    assert (found.lower, found.upper) == pytest.approx((known.lower, known.upper), abs=1e-9)


def test_nothing_changed_still_leaves_a_bound() -> None:
    _, real, labels = classifier(100)
    share = 1 - 0.05 ** (1 / 100)
    drop = paired_drop(resolve_metric("top1"), real, real, labels)
    assert drop.drop == 0 and drop.changed == 0 and drop.upper == pytest.approx(share)
    errors = [[np.array([float(i)])] for i in range(100)]
    mean = paired_drop(resolve_metric(lambda o, _: [first[0] for first, *_ in o]), errors, errors, labels)
    assert (mean.lower, mean.upper) == pytest.approx((-share * 99, share * 99))  # values from 0 to 99 were seen
    assert "Clopper and Pearson" in mean.method
    zeros: Answers = [[np.zeros(1)]] * 100
    unknown = paired_drop(resolve_metric("rmse"), zeros, zeros, [0.0] * 100)
    assert unknown.upper == math.inf and unknown.to_dict()["upper"] is None


def test_scores_that_keep_their_order_change_nothing() -> None:
    _, real, labels = classifier(60)
    wanted = [label % 2 for label in labels]
    drop = paired_drop(resolve_metric("auc"), [[3 * first] for first, *_ in real], real, wanted)
    assert drop.drop == 0 and drop.changed == 0 and drop.upper > 1 - 0.05 ** (1 / 60)


def test_few_changes_are_bounded_by_what_they_cost() -> None:
    values: Answers = [[np.array([1.0])] for _ in range(200)]
    changed = [list(o) for o in values]
    changed[3], changed[8] = [np.array([0.2])], [np.array([0.9])]
    drop = paired_drop(resolve_metric(lambda o, _: [first[0] for first, *_ in o]), changed, values, [0] * 200)
    # 2 of 200: at most 3.113 % change with 95 % confidence (Clopper and Pearson); the dearest cost 0.8, which is the spread
    assert drop.changed == 2 and drop.upper == pytest.approx(0.03113 * 0.8, rel=1e-3)
    values[100], changed[100] = [np.array([5.0])], [np.array([5.0])]
    wide = paired_drop(resolve_metric(lambda o, _: [first[0] for first, *_ in o]), changed, values, [0] * 200)
    assert wide.upper == pytest.approx(0.03113 * (2 * 0.8 + 4.8) / 3, rel=1e-3)  # values from 0.2 to 5 were seen


def test_lower_may_be_better() -> None:
    quantized, right, labels = classifier(60)

    def errors(outputs: Any, labels: Any) -> NDArray[Any]:
        return np.asarray(~hits(outputs, labels), float)

    errors.higher_is_better = False  # type: ignore[attr-defined]
    found = paired_drop(resolve_metric(errors), quantized, right, labels)
    wanted = paired_drop(resolve_metric("top1"), quantized, right, labels)
    assert (found.drop, found.lower, found.flips_worse) == pytest.approx(
        (wanted.drop, wanted.lower, wanted.flips_worse)
    )
    outputs, real = [[np.array([float(i % 3)])] for i in range(30)], [[np.array([0.5 * (i % 3)])] for i in range(30)]
    assert paired_drop(resolve_metric("rmse"), outputs, real, [0.0] * 30).lower > 0
    assert paired_drop(resolve_metric("rmse"), real, outputs, [0.0] * 30).upper < 0


def test_a_broken_model_loses_without_bound() -> None:
    quantized, real, labels = classifier(20)
    infinite = Metric("m", lambda o, _: math.inf if o is quantized else 1.0, higher_is_better=False)
    drop = paired_drop(infinite, quantized, real, labels)
    assert drop.drop == drop.lower == math.inf


def test_wrong_use_is_an_error() -> None:
    quantized, real, labels = classifier(20)
    with pytest.raises(RecipeError, match="metric sqnr of the float model is inf"):
        paired_drop(resolve_metric("sqnr"), quantized, real, labels)
    with pytest.raises(RecipeError, match="given 95"):
        paired_drop(resolve_metric("top1"), quantized, real, labels, confidence=95)
    with pytest.raises(DataError, match="20 samples of the model and 19"):
        paired_drop(resolve_metric("top1"), quantized, real[1:], labels)
    with pytest.raises(DataError, match="give two or more"):
        paired_drop(resolve_metric("top1"), quantized[:1], real[:1], labels[:1])
    with pytest.raises(DataError, match="gives 20 rows and the float model 40"):
        doubled: Answers = [[np.repeat(first, 2, 0)] for first, *_ in real]
        top1 = Metric("m", lambda o, _: 1.0, each=lambda o, _: np.ones(sum(len(first) for first, *_ in o)))
        paired_drop(top1, quantized, doubled, labels)


def test_a_drop_without_bounds_where_a_metric_takes_long() -> None:
    outputs = [[np.array([[float(i % 3 == 0), 0.5]])] for i in range(30)]
    reference = [[np.array([[0.0, 0.5]])] for _ in range(30)]
    labels = [1] * 30  # a third of the answers got wrong

    def slow(given: Sequence[Outputs], wanted: Sequence[Any]) -> float:
        time.sleep(0.01)
        right = [first.argmax() == label for (first, *_), label in zip(given, wanted, strict=True)]
        return float(np.mean(right) ** 3)  # no mean of samples

    metric = resolve_metric(slow)
    assert takes_long(metric, outputs, labels, calls=400, seconds=2.0)
    assert not takes_long(metric, outputs, labels, calls=400, seconds=60.0)
    assert not takes_long(resolve_metric("top1"), outputs, labels, calls=400, seconds=0.0)
    drop = unbounded_drop(metric, outputs, reference, labels)
    assert drop.drop == pytest.approx(1 - (2 / 3) ** 3) and drop.upper == np.inf and drop.lower == -np.inf
    assert judge(drop, 0.5).kind == "undecided" and drop.to_dict()["high"] is None


@pytest.mark.parametrize("metric", ["cosine", "agreement"])
def test_models_with_outputs_of_several_shapes_are_compared(metric: str) -> None:
    random = np.random.default_rng(0)
    real: Answers = [[random.standard_normal((1, 4)), random.standard_normal((2, 1, 8))] for _ in range(20)]
    quantized: Answers = [[first + 1e-3, *others] for first, *others in real]
    drop = paired_drop(resolve_metric(metric), quantized, real, [None] * 20)
    assert drop.baseline == pytest.approx(1.0) and drop.samples == 20


def test_integers_are_answers() -> None:
    real: Answers = [[np.array([label]), np.eye(3)[[label]]] for label in (0, 1, 2, 1)]
    quantized: Answers = [[np.array([label])] for label in (0, 1, 2, 2)]
    drop = paired_drop(resolve_metric("agreement"), quantized, real, [None] * 4)
    assert (drop.value, drop.samples, drop.flips_worse) == (0.75, 4, 1)
    texts: Answers = [[np.array([[1, 2, 3]])], [np.array([[4, 5]])]]  # positions of one text depend on each other
    changed: Answers = [[np.array([[1, 2, 0]])], [np.array([[4, 5]])]]
    drop = paired_drop(resolve_metric("agreement"), changed, texts, [None] * 2)
    assert (drop.value, drop.samples, drop.flips_worse) == (0.8, 2, None)
