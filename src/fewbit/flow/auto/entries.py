"""What a search knows of each candidate, and which of them it prefers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from fewbit.search.ladder import Candidate
from fewbit.search.limits import Limits
from fewbit.search.objective import Axis, Objective

Status = Literal["waiting", "working", "measured", "stopped", "failed", "skipped"]
FLOAT = "float"
NO_LOSS = 0.97  # of the float model's speed: nearer to 1 is within what one machine differs from run to run
_NEARLY = 0.8
_ALIKE = 1.05  # of the bytes: nobody chooses by less
_OTHER_KERNELS = ("integer", "dynamic", "weight_only")


@dataclass(slots=True)
class Entry:
    """A candidate and what was found of it: results of the work in `fewbit.flow.auto.work`.

    float_bytes: of the float model in the target's format. doing: what is being done, while that is so. refused: by the
    samples for certification. seconds: that its work took.
    """

    candidate: Candidate
    float_bytes: int
    status: Status = "waiting"
    reason: str = ""
    doing: str = ""
    files: str = ""
    built: Mapping[str, Any] | None = None
    scored: Mapping[str, Any] | None = None
    measured: Mapping[str, Any] | None = None
    certified: Mapping[str, Any] | None = None
    energy: Mapping[str, Any] | None = None
    refused: bool = False
    seconds: float = 0.0

    @property
    def id(self) -> str:
        return self.candidate.id

    @property
    def bytes(self) -> int:
        assert self.built is not None
        return int(self.built["bytes"])

    @property
    def speed_up(self) -> float | None:
        """Over the float model; None where this machine's times say nothing of the device."""
        latency = None if self.measured is None else self.measured["latency"]
        return None if latency is None else float(latency["ratio"])

    @property
    def faster(self) -> bool:
        """Whether it is faster than the float model beyond the noise, and by kernels of its own: narrow weights that
        are expanded when the file is loaded change nothing but the size."""
        if self.measured is None or self.measured["latency"] is None or self.built is None:
            return False
        latency = self.measured["latency"]
        return self.own_kernels and latency["low"] > 1.0 and latency["ratio"] > 1.0 / NO_LOSS

    @property
    def own_kernels(self) -> bool:
        """Whether anything is computed otherwise than in float."""
        return self.built is not None and any(self.built["forms"].get(form) for form in _OTHER_KERNELS)

    @property
    def sqnr(self) -> float:
        """Of the worst output, in dB; infinite where it is exact."""
        found = None if self.built is None else self.built["sqnr_db"]
        return float("inf") if found is None else float(found)

    @property
    def memory(self) -> int | None:
        return None if self.measured is None else self.measured["memory"]

    @property
    def drop(self) -> Mapping[str, Any]:
        assert self.scored is not None
        found: Mapping[str, Any] = self.scored["drop"]
        return found

    @property
    def drops(self) -> list[Mapping[str, Any]]:
        """What the samples for the search said, and those for certification."""
        return [self.drop, *([self.certified] if self.certified is not None and "drop" in self.certified else [])]

    def within(self, limits: Limits) -> str | None:
        """Which limit it breaks; None where it keeps to all."""
        return limits.broken(self.bytes, self.speed_up, self.memory)


def mean_drop(drops: Sequence[Mapping[str, Any]]) -> float:
    """The mean of what several sets of samples say, by their numbers."""
    total = sum(float(drop["samples"]) for drop in drops)
    return sum(float(drop["drop"]) * float(drop["samples"]) for drop in drops) / total


def expected_drop(drop: Mapping[str, Any], limit: float) -> float:
    """The drop to reckon with after a first look: what it says, drawn towards none as far as it is uncertain.

    Before a look at a candidate its drop is taken to be none, give or take the limit: the mean of the posterior is then
    the estimate times limit² / (limit² + its variance). Without this, one of several candidates that are equally good
    is dropped for three answers of 240 that it happened to lose.
    """
    estimate = float(drop["drop"])
    if drop["low"] is None or drop["high"] is None or limit == 0.0:
        return estimate
    error = (float(drop["high"]) - float(drop["low"])) / 2 / NormalDist().inv_cdf((1 + float(drop["confidence"])) / 2)
    return estimate * limit**2 / (limit**2 + error**2)


def acceptable(entry: Entry, limits: Limits, max_drop: float) -> bool:
    """Whether it may be chosen, as far as is known: the samples for the search only sort out what is clearly worse."""
    if entry.status != "measured" or entry.refused or entry.within(limits) is not None:
        return False
    return expected_drop(entry.drop, max_drop) <= max_drop


def compared_by(objective: Objective, *, timed: bool) -> Objective:
    """By which figure candidates are compared: where nothing is timed, the estimate of a run's work stands for its latency."""
    if timed or "latency" not in objective.axes:
        return objective
    weights = dict(objective.weights)
    weights["energy"] = weights.get("energy", 0.0) + weights.pop("latency")
    return Objective(tuple(sorted(weights.items(), key=lambda item: -item[1])))


def gain(entry: Entry, objective: Objective) -> float:
    """How many times better than the float model it is for the objective; what cannot be measured here counts as its size
    does."""

    def along(axis: Axis) -> float:
        if axis == "latency" and entry.speed_up is not None:
            return entry.speed_up if entry.own_kernels else min(entry.speed_up, 1.0)
        if axis == "energy" and entry.energy is not None:
            return 1.0 / float(entry.energy["ratio"])
        return entry.float_bytes / max(entry.bytes, 1)

    return objective.gain(along)


def preferred(entries: Sequence[Entry], objective: Objective) -> list[Entry]:
    """Those that are worth shipping, the best first.

    For latency: those that are faster than float beyond the noise, by how much; then, for what they save in size, those
    that are no slower, and of those of about one size what keeps most of the float model. Whatever is slower than the
    float model is left out: that model is better.
    """
    if objective.only != "latency":
        return sorted(entries, key=lambda e: (-gain(e, objective), e.bytes))
    faster = [e for e in entries if e.faster]
    equal = [e for e in entries if e not in faster and (e.id == FLOAT or (e.speed_up or 0.0) >= NO_LOSS)]
    by_speed = sorted(faster, key=lambda e: -(e.speed_up or 0.0))
    return [*by_speed, *_by_size(equal)]


def _by_size(entries: Sequence[Entry]) -> list[Entry]:
    """The smallest first; of those that are hardly larger than the first of them, that of least noise."""
    found: list[Entry] = []
    left = sorted(entries, key=lambda e: e.bytes)
    while left:
        alike = [e for e in left if e.bytes <= _ALIKE * left[0].bytes]
        found += sorted(alike, key=lambda e: -e.sqnr)
        left = left[len(alike) :]
    return found


def promising(order: Sequence[Entry], objective: Objective, limit: float) -> Entry | None:
    """The first of some candidates, or, if it lost more than the limit on the samples for the search, the next one that
    is nearly as good and did not."""
    if not order:
        return None
    first = order[0]
    if float(first.drop["drop"]) <= limit:
        return first
    nearly = [e for e in order if gain(e, objective) >= _NEARLY * gain(first, objective)]
    return next((e for e in nearly if float(e.drop["drop"]) <= limit), first)


def frontier(entries: Sequence[Entry], objective: Objective) -> set[str]:
    """The ids of those that no other one beats in both gain and drop."""
    measured = [e for e in entries if e.status == "measured"]
    points = {e.id: (gain(e, objective), -float(e.drop["drop"])) for e in measured}
    return {
        name
        for name, point in points.items()
        if not any(other != point and other[0] >= point[0] and other[1] >= point[1] for other in points.values())
    }
