"""What is asked of a search, and what it knows so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.flow.auto.entries import Entry
from fewbit.flow.auto.session import Answer
from fewbit.flow.auto.setup import Part, Splits
from fewbit.search.limits import Limits, MaxDrop
from fewbit.search.objective import Objective


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a search, beside the setup.

    compared_by: the objective, or what stands for it where the target is not timed. max_drop: as the user wrote it. strict:
    only a candidate that is proved to keep to the drop is good enough. recipes: instead of the target's ladder. workers:
    pieces of work at once.
    """

    objective: Objective
    compared_by: Objective
    max_drop: str | float | None
    limits: Limits
    strict: bool = False
    recipes: Sequence[str] = ()
    workers: int = 1


@dataclass(slots=True)
class Found:
    """What a search knows so far.

    stage: what it is doing, in a few words. doing: how far the work for it is: `label`, `done`, `total`. share: whether the
    metric is one, so that its changes are told in points.
    """

    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    stage: str = ""
    doing: dict[str, Any] | None = None
    splits: Splits | None = None
    twin: Answer | None = None
    baseline: dict[Part, dict[str, Any]] = field(default_factory=dict)
    share: bool = False
    drop: MaxDrop | None = None
    chosen: Entry | None = None
    verdict: dict[str, Any] | None = None
    layer_sqnr: dict[str, float | None] = field(default_factory=dict)
    evaluated: int = 0
    out_of_time: bool = False
