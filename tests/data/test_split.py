"""Parts are disjoint, exact in size, and hold every class in its share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.data.split import split
from fewbit.errors import DataError


def test_parts_of_classes() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    first, second = split(labels, 100, [0.3, 0.7])
    assert (len(first), len(second)) == (30, 70)
    assert sorted([*first, *second]) == list(range(100))
    assert [[labels[i] for i in first].count(kind) for kind in "abc"] == [18, 9, 3]
    assert first.tolist() == sorted(first)


def test_the_seed_decides() -> None:
    assert [p.tolist() for p in split(None, 50, [0.5, 0.2], 1)] == [p.tolist() for p in split(None, 50, [0.5, 0.2], 1)]
    assert split(None, 50, [0.5], 1)[0].tolist() != split(None, 50, [0.5], 2)[0].tolist()


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 4), min_size=20, max_size=120), st.sampled_from([(0.5, 0.5), (0.2, 0.3), (0.1, 0.2, 0.7)])
)
def test_every_class_has_its_share_to_within_one(labels: list[int], shares: tuple[float, ...]) -> None:
    count = len(labels)
    parts = split(labels, count, shares)
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == len(together) == round(sum(shares) * count)
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * count) < 1
        for kind in set(labels):
            exact = labels.count(kind) * len(part) / count
            assert abs(sum(labels[i] == kind for i in part) - exact) < 1


def test_many_rare_classes() -> None:
    labels = [i // 3 for i in range(3000)]
    first, second, third = split(labels, 3000, [1 / 3, 1 / 3, 1 / 3])
    assert all(sorted(np.array(labels)[part].tolist()) == list(range(1000)) for part in (first, second, third))


def test_measurements_are_split_by_chance() -> None:
    parts = split([i / 7 for i in range(11)], 11, [0.5, 0.5])
    assert sorted(map(len, parts)) == [5, 6]


def test_wrong_shares_are_errors() -> None:
    with pytest.raises(DataError, match=r"given 0\.7, 0\.5"):
        split(None, 10, [0.7, 0.5])
    with pytest.raises(DataError, match="above 0"):
        split(None, 10, [0.0, 0.5])
    with pytest.raises(DataError, match="3 samples do not suffice"):
        split(None, 3, [0.9, 0.1])
    with pytest.raises(DataError, match="10 samples have 2 labels"):
        split([1, 2], 10, [0.5])
