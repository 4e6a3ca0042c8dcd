"""A few samples that stand for many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.data.selection import distances_to, k_center, standardized

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [100.0]])


def test_one_of_each_group_is_chosen() -> None:
    """12 first, the nearest to the mean of 19.4; then the farthest: 100, and 0."""
    assert k_center(LINE, 1) == [5]
    assert k_center(LINE, 3) == [0, 5, 6]


def test_each_class_gets_its_share() -> None:
    """Four of class 0, two of class 1 and one of class 2: of four, 1 each, and the fourth to the class that lacks most."""
    classes = np.array([0, 0, 0, 0, 1, 1, 2])
    chosen = k_center(LINE, 4, classes)
    assert np.bincount(classes[chosen]).tolist() == [2, 1, 1]
    assert np.bincount(classes[k_center(LINE, 2, classes)], minlength=3).tolist() == [1, 1, 0]


def test_a_rare_class_has_one_where_they_suffice() -> None:
    classes = np.array([0] * 20 + [1])
    assert 20 in k_center(np.zeros((21, 1)), 2, classes)
    assert k_center(np.zeros((21, 1)), 1, classes) == [0]


def test_of_equals_the_first_is_taken() -> None:
    assert k_center(np.zeros((5, 2)), 2) == [0, 1]


def test_all_can_be_chosen() -> None:
    assert k_center(LINE, 7) == [0, 1, 2, 3, 4, 5, 6]
    assert distances_to(LINE, range(7)).mean == 0.0


def test_distances() -> None:
    found = distances_to(LINE, [1, 4])
    assert found.largest == 89.0 and found.mean == pytest.approx((1 + 0 + 1 + 1 + 0 + 1 + 89) / 7)


def test_blocks_count_alike() -> None:
    """Whatever their units: the mean square of all is 1, and each block has half of it. One without variance has none."""
    features = standardized([LINE, LINE * 1e6])
    assert (features**2).sum(1).mean() == pytest.approx(1.0)
    assert features[:, 0] == pytest.approx(features[:, 1])
    assert (standardized([LINE, np.ones((7, 3))])[:, 1:] == 0.0).all()


@given(st.integers(1, 40), st.integers(0, 3), st.data())
def test_as_many_as_asked_for_and_none_twice(samples: int, kinds: int, data: st.DataObject) -> None:
    features = np.random.default_rng(samples).standard_normal((samples, 2))
    count = data.draw(st.integers(1, samples))
    classes = None if kinds == 0 else np.unique(np.arange(samples) % kinds, return_inverse=True)[1]
    chosen = k_center(features, count, classes)
    assert len(set(chosen)) == count and chosen == sorted(chosen)
    if classes is not None:
        share = count * np.bincount(classes) / samples
        assert (np.abs(np.bincount(classes[chosen], minlength=len(share)) - share) < len(share)).all()


@given(st.integers(3, 9), st.integers(0, 99))
def test_no_choice_of_as_many_halves_the_largest_distance(samples: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((samples, 2))
    for count in range(1, samples):
        best = min(distances_to(features, some).largest for some in combinations(range(samples), count))
        assert distances_to(features, k_center(features, count)).largest <= 2 * best + 1e-9
