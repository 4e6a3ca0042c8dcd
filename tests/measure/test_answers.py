"""Scores behind probabilities, and the share of answers that lie within the noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, ndtr, softmax

from fewbit.measure.answers import answers_at_risk, scores_of_sigmoid, scores_of_softmax


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax_is_undone_but_for_the_mean(axis: int) -> None:
    scores = np.random.default_rng(0).standard_normal((3, 4, 5)) * 10
    probabilities = softmax(scores, axis).astype(np.float32)
    wanted = scores - scores.mean(axis, keepdims=True)
    np.testing.assert_allclose(scores_of_softmax(probabilities, axis), wanted, atol=1e-4)


def test_sigmoid_is_undone_as_far_as_float32_tells() -> None:
    scores = np.array([-80.0, -5.0, 0.0, 5.0, 10.0, 80.0])
    found = scores_of_sigmoid(expit(scores).astype(np.float32))
    np.testing.assert_allclose(found[:4], scores[:4], atol=1e-3)
    assert 9.5 < found[4] < found[5] < 17  # 1 - 2**-24 is the last number below 1


def test_probabilities_of_zero_and_one_give_numbers() -> None:
    assert np.isfinite(scores_of_softmax(np.array([[1.0, 0.0]], np.float32), -1)).all()
    assert np.isfinite(scores_of_sigmoid(np.array([0.0, 1.0], np.float32))).all()


def test_the_risk_is_that_of_leads_against_noise() -> None:
    real = np.array([[3.0, 1.0, 0.0], [0.0, 0.5, -9.0]])
    quantized = real + np.array(
        [[0.3, -0.1, 7.0], [-0.2, 0.2, 0.0]]
    )  # leads off by 0.4 and 0.4; the third class does not count
    assert answers_at_risk(real, quantized) == pytest.approx(float(np.mean(ndtr([-2 / 0.4, -0.5 / 0.4]))))
    assert answers_at_risk(real, real) == 0.0


def test_the_risk_foretells_how_many_answers_change() -> None:
    random = np.random.default_rng(1)
    real = random.standard_normal((20000, 10)) * 2
    quantized = real + random.standard_normal(real.shape) * 0.1
    changed = float(np.mean(real.argmax(1) != quantized.argmax(1)))
    assert answers_at_risk(real[:500], quantized[:500]) == pytest.approx(changed, rel=0.25)
