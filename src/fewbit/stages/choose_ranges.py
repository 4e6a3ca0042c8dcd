"""Ranges: scale and zero point of every activation site, from the statistics of the float pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fewbit.core.affine import params_from_range
from fewbit.core.ranges import RANGES, lp, mse
from fewbit.core.stats import TensorStats
from fewbit.errors import DataError
from fewbit.plan.legalize import FIXED
from fewbit.plan.plan import Plan, SitePlan
from fewbit.spec import QParams, QSpec

JOINT = "joint"
"""The method of ranges, of activations and of weights, that are searched together (`fewbit.stages.joint_ranges`); they begin
with the least squared error."""


def choose_ranges(
    plan: Plan, stats: Mapping[str, TensorStats], grids: Mapping[str, float] | None = None, *, norm: float = 2.0
) -> Plan:
    """The plan with the parameters of its edges. Sites of a group are calibrated as one tensor.

    Args:
        stats: of every edge, by name.
        grids: inputs whose values are multiples of a step: they keep every value where the levels suffice.
        norm: of the errors of ranges of method `joint`.

    Raises:
        DataError: a site has no finite value, or no statistics.
    """
    groups: dict[str, list[SitePlan]] = {}
    for site in plan.edges().values():
        if site.method == FIXED:
            continue
        groups.setdefault(site.group or site.site.name, []).append(site)
    chosen: dict[str, SitePlan] = {}
    for members in groups.values():
        merged = _merge(members, stats)
        spec, method = members[0].spec, members[0].method
        assert spec is not None  # edges() are the quantized ones
        through = members[0].through if len(members) == 1 else "identity"
        params = _on_grid(merged, spec, [(grids or {}).get(site.site.name) for site in members])
        if params is not None:
            method = "grid"
        else:
            params = bounded_range(merged, spec, method, [site.bounds for site in members], through, norm)
        for site in members:
            chosen[site.site.name] = replace(site, params=params, method=method)
    return plan.with_sites(chosen)


def bounded_range(
    seen: TensorStats,
    spec: QSpec,
    method: str,
    bounds: Sequence[tuple[float, float] | None],
    through: str = "identity",
    norm: float = 2.0,
) -> QParams:
    """Parameters by an estimator, within what the sites that share them can hold (`auto` and `joint` begin with `mse`)."""
    if method == JOINT and norm != 2.0:
        low, high = lp.range_(seen, spec, norm=norm, through=through)
    elif method in ("mse", "auto", JOINT):
        low, high = mse.range_(seen, spec, through=through)
    else:
        low, high = RANGES[method](seen, spec)
    limits = [bound for bound in bounds if bound is not None]
    if len(limits) == len(bounds):
        low, high = max(low, min(b[0] for b in limits)), min(high, max(b[1] for b in limits))
    return params_from_range(np.float64(low), np.float64(high), spec)


def _on_grid(seen: TensorStats, spec: QSpec, steps: list[float | None]) -> QParams | None:
    """Parameters that hold all multiples of the step between the extremes, if there are levels enough."""
    step = steps[0]
    if step is None or any(other != step for other in steps) or spec.symmetric:
        return None
    low, high = round(min(seen.minimum, 0.0) / step), round(max(seen.maximum, 0.0) / step)
    if high - low > spec.qmax - spec.qmin:
        return None
    return QParams(spec, np.asarray(step, np.float32), np.asarray(spec.qmin - low, np.int32))


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
