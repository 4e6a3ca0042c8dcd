from __future__ import annotations

import time

import numpy as np
import pytest

from fewbit.measure.compare import OutputComparison
from fewbit.measure.latency import interleaved, median_interval


def test_ratios_are_against_the_first_and_in_turns() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    slow, fast = interleaved({"slow": lambda: run("slow", 0.02), "fast": lambda: run("fast", 0.005)}, rounds=5)
    assert slow.ratio == 1.0
    assert fast.low <= fast.ratio <= fast.high and 2 < fast.ratio < 8
    turns = [name for i, name in enumerate(order[8:]) if i == 0 or order[8:][i - 1] != name]
    assert turns.count("slow") >= 3  # neither is timed in one stretch


def test_the_interval_of_a_median_is_of_order_statistics() -> None:
    # Conover's table: for n = 15 the 4th and the 12th value bound the median at 96.5 %.
    assert median_interval(np.arange(1.0, 16.0)) == (4.0, 12.0)
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0)


def test_output_comparison() -> None:
    comparison = OutputComparison("y")
    comparison.update(np.array([[1.0, 3.0]], np.float32), np.array([[1.0, 2.0]], np.float32))
    assert comparison.sqnr == pytest.approx(10.0)
    comparison.update(np.array([[0.0, 2.0]], np.float32), np.array([[1.0, 0.0]], np.float32))
    assert comparison.agreement == 0.5 and comparison.max_error == 2.0
    assert comparison.to_dict()["worst_sample_db"] == pytest.approx(10 * np.log10(4 / 5))
    same = OutputComparison("z")
    same.update(np.ones(3), np.ones(3))
    assert same.sqnr == np.inf and same.to_dict()["sqnr_db"] is None
    broken = OutputComparison("n")
    broken.update(np.ones(2), np.array([np.nan, 1.0]))
    assert broken.nonfinite == 1
