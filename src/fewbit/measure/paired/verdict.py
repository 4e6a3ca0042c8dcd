"""Is a drop within its limit? Pass, fail, or undecided, with how many samples would decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from fewbit.measure.paired.drop import Drop
from fewbit.measure.paired.tango import lower_bound, upper_bound

MOST = 1e12
"""Samples beyond which the question is given up."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: of the drop against `limit`, in the metric's own unit. needed: where undecided, about how many samples would
    decide if the drop stayed as it was seen; None where no number would (the drop equals the limit, or nothing is known)."""

    kind: Literal["pass", "fail", "undecided"]
    limit: float
    drop: Drop
    needed: int | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "limit": self.limit,
            "needed": self.needed,
            "sentence": self.sentence(),
            "drop": self.drop.to_dict(),
        }

    def sentence(self) -> str:
        """One line in plain words."""
        drop = self.drop
        percent = confident(self.drop.confidence)
        seen = (
            "is unchanged"
            if drop.drop == 0
            else f"is {self._say(abs(drop.drop))} {'worse' if drop.drop > 0 else 'better'}"
        )
        seen = f"{drop.metric} {seen} on {drop.samples} samples"
        limit = self._say(self.limit)
        if self.kind == "pass":
            worst = "no worse" if drop.upper <= 0 else f"at most {self._say(drop.upper)} worse"
            return f"pass: {seen}, and with {percent} confidence {worst}; the limit is {limit}"
        if self.kind == "fail":
            return f"fail: {seen}, and with {percent} confidence at least {self._say(drop.lower)} worse; the limit is {limit}"
        if self.needed is not None:
            more = f"about {self.needed} samples would decide"
        elif drop.drop == self.limit:
            more = "it lies right at the limit, and no number of samples would decide"
        else:
            more = "these samples do not tell how many would decide"
        return (
            f"undecided: {seen}, and anything from {self._say(drop.lower)} to {self._say(drop.upper)} worse is possible "
            f"(each bound with {percent} confidence); the limit is {limit}, and {more}"
        )

    def _say(self, value: float) -> str:
        if not self.drop.points:
            return f"{value:.4g}"
        number = f"{value * 100:.3g}"
        return f"{number} point{'' if number == '1' else 's'}"


def confident(confidence: float) -> str:
    """A confidence, with the digits that tell it from certainty: `95%`, `99.5%`."""
    return f"{float(f'{confidence * 100:.6g}'):g}%"


def judge(drop: Drop, limit: float) -> Verdict:
    """Pass if the one-sided upper bound of the drop is at most the limit, fail if its lower bound is above it."""
    if drop.upper <= limit:
        return Verdict("pass", limit, drop, None)
    if drop.lower > limit:
        return Verdict("fail", limit, drop, None)
    return Verdict("undecided", limit, drop, _needed(drop, limit))


def _needed(drop: Drop, limit: float) -> int | None:
    passes = drop.drop < limit
    if drop.drop == limit or not math.isfinite(drop.upper if passes else drop.lower):
        return None
    if drop.flips_worse is not None and drop.flips_better is not None:
        return _needed_flips(drop.flips_worse, drop.flips_better, drop.samples, drop.confidence, limit)
    if not drop.changed:  # the share that may change, 3 / n
        return math.ceil(drop.samples * drop.upper / limit) if passes else None
    gap = (drop.upper if passes else drop.lower) - drop.drop
    return math.ceil(drop.samples * (gap / (limit - drop.drop)) ** 2)  # a half width shrinks with √n


def _needed_flips(worse: int, better: int, count: int, confidence: float, limit: float) -> int | None:
    """The least multiple of what was seen whose bound decides, by bisection of its logarithm."""

    def decides(n: float) -> bool:
        b, c = worse * n / count, better * n / count
        if (worse - better) / count < limit:
            return upper_bound(b, c, n, confidence) <= limit
        return lower_bound(b, c, n, confidence) > limit

    low, high = float(count), 2.0 * count
    while not decides(high):
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return math.ceil(high)
