from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.errors import DataError, RecipeError
from fewbit.measure.metrics import METRICS, resolve_metric


def value(name: str, outputs: list[object], labels: list[object]) -> float:
    return resolve_metric(name)([[np.asarray(o)] for o in outputs], labels)


def test_topk() -> None:
    scores = [[[0.1, 0.9, 0.0, 0, 0, 0]], [[0.5, 0.4, 0.3, 0.2, 0.1, 0.0]]]
    assert value("top1", scores, [1, 5]) == 0.5
    assert value("top5", scores, [1, 4]) == 1.0
    assert value("top5", scores, [1, 5]) == 0.5
    assert value("top1", [np.eye(3)], [np.array([0, 1, 0])]) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="labels go from 0 to 9"):
        value("top1", scores, [0, 9])


def test_a_first_output_of_classes_is_the_answer() -> None:
    assert value("top1", [[3], [7]], [3, 9]) == 0.5
    assert value("top1", [[[3], [7]]], [np.array([3, 9])]) == 0.5  # a batch of two
    with pytest.raises(DataError, match="metric top5 needs class scores, and the first output is the class itself"):
        value("top5", [[3]], [3])


def test_auc_counts_ties_half() -> None:
    assert value("auc", [[0.1], [0.4], [0.4], [0.9]], [0, 0, 1, 1]) == 0.875
    assert value("AUC", [[0.9, 0.1], [0.2, 0.8]], [0, 1]) == 1.0
    with pytest.raises(DataError, match="both labels"):
        value("auc", [[0.1]], [1])


def test_spearman_of_scores_and_of_embedding_pairs() -> None:
    assert value("spearman", [[1.0], [2.0], [3.0]], [10, 20, 30]) == pytest.approx(1.0)
    pairs = [np.array([[1.0, 0.0], [1.0, y]]) for y in (0.0, 1.0, 3.0)]
    assert value("spearman", pairs, [3.0, 2.0, 1.0]) == pytest.approx(1.0)


def test_rmse_and_perplexity() -> None:
    assert value("rmse", [[1.0, 2.0]], [[1.0, 4.0]]) == pytest.approx(np.sqrt(2))
    logits = np.log(np.array([[[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]]))
    assert value("perplexity", [logits], [[0, 0, -100]]) == pytest.approx((0.5 * 0.25) ** -0.5)


def test_error_rates() -> None:
    pytest.importorskip("rapidfuzz")
    assert value("cer", [np.array(["kitten"])], ["sitting"]) == pytest.approx(3 / 7)
    assert value("wer", [np.array(["the cat sat"])], ["the cat sat down"]) == 0.25
    best = [0, 1, 1, 0, 2, 2, 0, 2]  # blanks and repeats: 1 2 2
    assert value("cer", [np.eye(3)[best][None]], [np.array([1, 2, 2])]) == 0.0


def test_map() -> None:
    pytest.importorskip("pycocotools")
    found = np.array([[0, 0, 10, 10, 0.9, 1], [20, 20, 30, 30, 0.8, 2]], np.float32)
    labels = np.array([[1, 0, 0, 10, 10], [2, 50, 50, 60, 60]])
    assert value("map", [found], [labels]) == pytest.approx(0.5)


def test_fidelity() -> None:
    outputs, real = [[np.array([[0.0, 1.0]])]], [[np.array([[0.0, 2.0]])]]
    assert resolve_metric("sqnr")(outputs, real) == pytest.approx(10 * np.log10(4))
    assert resolve_metric("cosine")(outputs, real) == pytest.approx(1.0)
    assert resolve_metric("agreement")(outputs, real) == 1.0


def test_every_metric_of_the_table_loads() -> None:
    assert {resolve_metric(name).name for name in METRICS} == set(METRICS)


def test_missing_labels_and_nan_fail() -> None:
    with pytest.raises(DataError, match="needs labels"):
        value("top1", [[[1.0, 0.0]]], [None])
    with pytest.raises(DataError, match="not a number"):
        value("rmse", [[np.nan]], [[0.0]])


def test_users_metrics(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "def per_sample(outputs, labels):\n    return [float(o[0][0] == l) for o, l in zip(outputs, labels)]\n"
        "def make(scale):\n    def metric(outputs, labels):\n        return scale * len(labels)\n"
        "    metric.higher_is_better = False\n    return metric\n"
    )
    assert value(f"{tmp_path / 'm.py'}:per_sample", [[1.0], [2.0]], [1.0, 3.0]) == 0.5
    made = resolve_metric(f"{tmp_path / 'm.py'}:make(2.0)")
    assert made([[np.zeros(1)]] * 3, [0, 0, 0]) == 6.0 and not made.higher_is_better
    assert not resolve_metric(LossOfClass().score).higher_is_better
    with pytest.raises(RecipeError, match="did you mean top1"):
        resolve_metric("top11")


class LossOfClass:
    higher_is_better = False

    def score(self, outputs: object, labels: object) -> float:
        return 0.0
