from __future__ import annotations

import numpy as np

from fewbit.measure.classes import classes_of


def test_labels_that_repeat_are_classes() -> None:
    for labels in ([3, 5, 3, 5], ["a", "b", "a", "b"], [np.array([3]), np.array(5), 3, 5]):
        found = classes_of(labels)
        assert found is not None and found.tolist() == [0, 1, 0, 1]


def test_positions_measurements_and_arrays_are_none() -> None:
    for labels in (list(range(10)), [0.1, 0.2, 0.3], [None, None], [np.zeros(2)] * 4, ["1", 1, "1", 1], []):
        assert classes_of(labels) is None
