"""Latency as a ratio: candidates and baseline run in turns, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_ROUND_SECONDS = 0.02  # of each candidate in a round: long against the clock, short against the machine's moods
_WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Latency:
    """Timing of one candidate.

    milliseconds: median time of one run. ratio: median over rounds of baseline time / its time, so above 1 is faster.
    low, high: distribution-free 95 % confidence interval of that median (order statistics). spread: interquartile range
    of the ratios.
    """

    name: str
    milliseconds: float
    ratio: float
    low: float
    high: float
    spread: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "milliseconds": self.milliseconds,
            "ratio": self.ratio,
            "ratio_low": self.low,
            "ratio_high": self.high,
            "spread": self.spread,
            "rounds": self.rounds,
        }


def interleaved(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 15,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Latency]:
    """Time candidates in turns; the first is the baseline.

    Every round runs all candidates in a new order, each often enough to fill 20 ms.
    """
    names = list(candidates)
    repeats = {}
    for name, run in candidates.items():
        for _ in range(_WARM_UP):
            run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, int(_ROUND_SECONDS / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(seed)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            run, count = candidates[name], repeats[name]
            start = time.perf_counter()
            for _ in range(count):
                run()
            times[name].append((time.perf_counter() - start) / count)
        advance(1)
    base = np.array(times[names[0]])
    return [_summary(name, np.array(times[name]), base / np.array(times[name])) for name in names]


def _summary(name: str, seconds: np.ndarray[Any, Any], ratios: np.ndarray[Any, Any]) -> Latency:
    low, high = median_interval(ratios)
    quarter, three = np.percentile(ratios, [25, 75])
    return Latency(
        name, float(np.median(seconds) * 1e3), float(np.median(ratios)), low, high, float(three - quarter), len(ratios)
    )


def median_interval(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % confidence interval of the median by order statistics (binomial; Conover 1999, section 3.2)."""
    from scipy.special import bdtrik

    ordered = np.sort(values)
    n = len(ordered)
    k = int(np.floor(bdtrik(0.025, n, 0.5))) if n > 5 else 0
    k = max(k, 0)
    return float(ordered[k]), float(ordered[n - 1 - k])
