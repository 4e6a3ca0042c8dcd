"""Ranges: scale and zero point of every activation site, from the statistics of the float pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fewbit.core.affine import params_from_range
from fewbit.core.ranges import RANGES
from fewbit.core.stats import TensorStats
from fewbit.errors import DataError
from fewbit.plan.plan import Plan, SitePlan


def choose_ranges(plan: Plan, stats: Mapping[str, TensorStats]) -> Plan:
    """The plan with the parameters of its edges. Sites of a group are calibrated as one tensor.

    Raises:
        DataError: a site has no finite value, or no statistics.
    """
    groups: dict[str, list[SitePlan]] = {}
    for site in plan.edges().values():
        groups.setdefault(site.group or site.site.name, []).append(site)
    chosen: dict[str, SitePlan] = {}
    for members in groups.values():
        merged = _merge(members, stats)
        spec, method = members[0].spec, members[0].method
        assert spec is not None  # edges() are the quantized ones
        low, high = RANGES[method](merged, spec)
        bounds = [site.bounds for site in members]
        if all(bound is not None for bound in bounds):
            low = max(low, min(bound[0] for bound in bounds if bound is not None))
            high = min(high, max(bound[1] for bound in bounds if bound is not None))
        params = params_from_range(np.float64(low), np.float64(high), spec)
        for site in members:
            chosen[site.site.name] = replace(site, params=params)
    return plan.with_sites(chosen)


def _merge(members: list[SitePlan], stats: Mapping[str, TensorStats]) -> TensorStats:
    merged = TensorStats(None)
    for site in members:
        seen = stats.get(site.site.name)
        if seen is None or seen.samples == 0:
            raise DataError(f"site {site.site.name} never held a value on the samples; give samples that reach it")
        if not (np.isfinite(seen.minimum) and np.isfinite(seen.maximum)):
            raise DataError(
                f"site {site.site.name} held NaN on the samples; check the samples, or leave it in float with --exclude"
            )
        if len(members) == 1:
            return seen
        part = seen.copy()
        merged.merge(part)
    return merged
