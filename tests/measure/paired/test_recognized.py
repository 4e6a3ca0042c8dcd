from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.measure.paired.recognized import Recognized, Score, like, recognize

VALUES = np.random.default_rng(0).uniform(1.0, 9.0, 40)
SIZES = np.random.default_rng(1).integers(1, 300, 40).astype(float)


def score_by(metric: Callable[[np.ndarray, np.ndarray], float], values: np.ndarray = VALUES) -> Score:
    return lambda indices: metric(values[list(indices)], SIZES[list(indices)])


def micro(values: np.ndarray, sizes: np.ndarray) -> float:
    return float((values * sizes).sum() / sizes.sum())


def perplexity(values: np.ndarray, sizes: np.ndarray) -> float:
    return float(np.exp((np.log(values) * sizes).sum() / sizes.sum()))


def rmse(values: np.ndarray, sizes: np.ndarray) -> float:
    return float(np.sqrt((values**2 * sizes).sum() / sizes.sum()))


def found(score: Score) -> Recognized:
    recognized = recognize(score, len(VALUES))
    assert recognized is not None
    return recognized


def test_plain_means() -> None:
    for metric, name in (
        (lambda v, _: float(v.mean()), "mean"),
        (lambda v, _: float(np.exp(np.log(v).mean())), "geometric mean"),
        (lambda v, _: float(np.sqrt((v**2).mean())), "root mean square"),
    ):
        recognized = found(score_by(metric))
        assert recognized.mean.name == name and recognized.weights is None
        assert recognized.values == pytest.approx(VALUES, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "name"), [(micro, "mean"), (perplexity, "geometric mean"), (rmse, "root mean square")]
)
def test_weights_are_found_from_pairs(metric: Callable[[np.ndarray, np.ndarray], float], name: str) -> None:
    recognized = found(score_by(metric))
    assert recognized.mean.name == name and recognized.weights is not None
    low = int(VALUES.argmin())
    assert recognized.weights == pytest.approx(SIZES / SIZES[low], rel=1e-6)
    chosen = np.random.default_rng(2).integers(0, 40, 25)  # any selection, as a bootstrap draws it
    assert recognized.total(recognized.parts()[chosen]) == pytest.approx(
        metric(VALUES[chosen], SIZES[chosen]), rel=1e-6
    )


def test_right_and_wrong_answers_in_batches_of_several_sizes() -> None:
    right = np.random.default_rng(3).integers(0, 2, 40).astype(float)
    recognized = recognize(score_by(micro, right), 40)
    assert recognized is not None and recognized.weights is not None
    assert recognized.total(recognized.parts()) == pytest.approx(micro(right, SIZES))


def test_another_model_by_the_same_weights() -> None:
    other = VALUES + np.random.default_rng(4).normal(0, 0.1, 40)
    known = found(score_by(perplexity))
    given_ = like(known, score_by(perplexity, other))
    assert given_ is not None and given_.values == pytest.approx(other, rel=1e-12)
    assert like(known, score_by(micro, other)) is None  # another mean


@pytest.mark.parametrize(
    "metric",
    [
        lambda v, _: float(np.median(v)),
        lambda v, _: float(v.max()),
        lambda v, _: float(v.std()),
        lambda v, _: float("nan") if len(v) < 2 else float(v.mean()),
        lambda v, s: micro(v, s) + 1e-3 * len(v),
    ],
)
def test_what_is_no_mean_is_not_taken_for_one(metric: Callable[[np.ndarray, np.ndarray], float]) -> None:
    assert recognize(score_by(metric), 40) is None


def test_few_calls() -> None:
    calls: list[Sequence[int]] = []
    score = score_by(perplexity)
    recognize(lambda indices: (calls.append(list(indices)), score(indices))[1], 40)
    assert len(calls) < 6 * 40
    assert sum(len(c) > 2 for c in calls) < 40  # nearly all of one or two samples


@given(st.lists(st.tuples(st.floats(0.1, 50.0), st.integers(1, 1000)), min_size=9, max_size=20), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_what_is_recognized_gives_any_selection(drawn: list[tuple[float, int]], seed: int) -> None:
    values, sizes = np.array([v for v, _ in drawn]), np.array([float(s) for _, s in drawn])
    recognized = recognize(lambda i: perplexity(values[list(i)], sizes[list(i)]), len(values))
    if recognized is not None:  # weights of nearly equal values cannot always be told
        chosen = np.random.default_rng(seed).integers(0, len(values), 30)
        assert recognized.total(recognized.parts()[chosen]) == pytest.approx(
            perplexity(values[chosen], sizes[chosen]), rel=1e-4
        )
