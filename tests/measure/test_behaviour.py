"""Changed answers, the class that lost most, and calibration."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fewbit.measure.behaviour import as_probabilities, behaviour, calibration_error


def answers(classes: list[int], count: int) -> list[list[np.ndarray]]:
    return [[np.eye(count)[[kind]] * 4] for kind in classes]


def test_flips_and_the_worst_class() -> None:
    labels = [0] * 40 + [1] * 40 + [2] * 5
    real = answers([0] * 40 + [1] * 36 + [2] * 4 + [2] * 5, 3)
    quantized = answers([0] * 39 + [1] + [1] * 30 + [2] * 6 + [1, 1, 0, 2] + [0] * 5, 3)
    found = behaviour(quantized, real, labels)
    assert found is not None and found.rows == 85
    assert found.changed == 15 / 85  # 1 + 6 + (2 to right, 1 to another wrong one) + 5
    assert (found.right_to_wrong, found.wrong_to_right) == (12 / 85, 2 / 85)
    worst = found.worst_class  # class 2 lost all of its five rows, which are too few to name it
    assert worst is not None and (worst.label, worst.rows) == (1, 40)
    assert (worst.baseline, worst.value) == (0.9, 0.8)
    assert worst.p_value == pytest.approx(2 * 2 * (1 + 8 + 28) / 2**8)  # 6 of 8 flips, two classes looked at
    few = behaviour(quantized, real, labels, least=5)
    assert few is not None and few.worst_class is not None and few.worst_class.label == 2
    none = behaviour(quantized, real, labels, least=100)
    assert none is not None and none.worst_class is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_calibration_by_bins() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [0.45, 0.55]])
    # bins of confidence: (13/15, 14/15] holds 0.9 and 0.92, (8/15, 9/15] holds 0.6 and 0.55
    wanted = (abs(1 - (0.9 + 0.92)) + abs(2 - (0.6 + 0.55))) / 4
    assert calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx(wanted)
    assert calibration_error(np.eye(3), np.array([0, 1, 2])) == 0.0
    assert calibration_error(np.eye(3), np.array([1, 2, 0])) == 1.0
    edge = np.array([[0.6, 0.4], [0.45, 0.55]])  # 9/15 belongs to the lower bin, which holds 0.55 as well
    assert calibration_error(edge, np.array([0, 0])) == pytest.approx((1 - 0.6 - 0.55) / -2)


def test_calibrated_probabilities_have_little_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), 20000)
    labels = (random.random((20000, 1)) > probabilities.cumsum(1)).sum(1)
    assert calibration_error(probabilities, labels) < 0.02
    sharper = probabilities**3 / (probabilities**3).sum(1, keepdims=True)
    assert calibration_error(sharper, labels) > 0.1


def test_scores_become_probabilities_where_they_are_none() -> None:
    scores = np.array([[2.0, 0.0], [0.0, 1.0]])
    found = as_probabilities(scores, scores)
    assert found is not None
    np.testing.assert_allclose(found[0], [np.exp(2) / (1 + np.exp(2)), 1 / (1 + np.exp(2))])
    rows = np.array([[0.75, 0.25], [0.5, 0.5]])
    rounded = np.array([[0.75, 0.25], [0.5, 0.4961]])  # integers of 1/256 need not add up to 1
    assert as_probabilities(rounded, rows) is not None and (as_probabilities(rounded, rows) == rounded).all()
    assert as_probabilities(rows, np.array([[0.9, 0.8], [0.1, 0.2]])) is None  # sigmoids
    assert as_probabilities(np.array([[np.nan, 1.0]]), rows) is None


def test_what_is_no_classifier_has_no_behaviour() -> None:
    scores = answers([0, 1], 3)
    assert behaviour(scores, scores, [0, 1]) is not None
    for outputs, labels in (
        (scores, [0.5, 1.5]),
        (scores, [None, None]),
        (scores, [0, 3]),
        (scores, [[0, 1], [0, 1]]),
        (scores, ["a", "b"]),
        ([[np.zeros((1, 1))]] * 2, [0, 0]),
        ([[np.zeros((1, 3))], [np.zeros((1, 4))]], [0, 0]),
        ([], []),
    ):
        assert behaviour(outputs, outputs, labels) is None
