"""Saturation: which activation sites clip values, and how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewbit.core.stats import TensorStats
from fewbit.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Saturation:
    """A site whose range leaves out a share of the values seen, beyond what an absorbed activation clips anyway."""

    site: str
    share: float
    low: float
    high: float
    seen_low: float
    seen_high: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "share": self.share,
            "range": [self.low, self.high],
            "seen": [self.seen_low, self.seen_high],
        }


def saturation(plan: Plan, stats: Mapping[str, TensorStats], *, least: float = 1e-4) -> list[Saturation]:
    """Sites that clip more than a share `least` of their values, worst first."""
    found = []
    for name, site in plan.edges().items():
        seen = stats.get(name)
        if seen is None or site.params is None or site.spec is None:
            continue
        scale, zero = float(site.params.scale), int(site.params.zero_point)
        low, high = (site.spec.qmin - zero - 0.5) * scale, (site.spec.qmax - zero + 0.5) * scale
        lower, upper, counts = seen.histogram.support()
        share = float(counts[(upper < low) | (lower > high)].sum() / max(counts.sum(), 1))
        if share > least:
            found.append(Saturation(name, share, low, high, seen.minimum, seen.maximum))
    return sorted(found, key=lambda s: -s.share)
