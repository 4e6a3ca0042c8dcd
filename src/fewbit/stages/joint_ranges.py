"""Ranges of activations and weights, chosen together by what the network makes of all their errors.

Nahshan et al. 2021, "Loss Aware Post-Training Quantization": ranges of the least Lp error share one p, which is found by
evaluating the network at several of them and at the minimum of a parabola through the results (sections 4.1 and 4.2); from
there Powell's method refines them together (section 4.3). Two things differ. Without labels, the loss is the noise-to-signal
ratio of the outputs. And Powell's method moves a few runs of consecutive sites, by one factor each, instead of every site: a
direction for each site would take as many evaluations as there are sites, several times over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewbit.core.floats import float16_scales
from fewbit.core.stats import TensorStats
from fewbit.core.weights.scales import weight_params
from fewbit.graph.hub import Hub
from fewbit.plan.balanced import balanced_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.spec import QParams
from fewbit.stages.choose_ranges import JOINT, choose_ranges
from fewbit.stages.scale_weights import stores_float16

NORMS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""The p that are tried before the parabola."""

MOST_EVALUATIONS = 96
_RUNS = 4  # of activations, and of weights: so many directions of Powell's method each
_WIDEST = 1.0  # ranges are at most doubled or halved
_CLOSE = 0.02  # in log2: factors nearer than 1.4 % are not told apart


@dataclass(frozen=True, slots=True)
class Choice:
    """A p, and log2 of the factors of the runs."""

    norm: float
    steps: tuple[float, ...]


class JointRanges:
    """The plans among which is searched.

    Attributes: plan, resolved, with the parameters of its edges; edges and weights, the names of the sites whose ranges are
    searched, in runs that share a factor; sites of a group are in one run.
    """

    def __init__(self, hub: Hub, plan: Plan, stats: Mapping[str, TensorStats]) -> None:
        self.hub, self.plan, self.stats = hub, plan, stats
        order = sorted(plan.sites.values(), key=lambda site: site.site.position)
        self.edges = _runs([s for s in order if s.site.kind == "edge" and s.method == JOINT and s.spec is not None])
        self.weights = _runs([s for s in order if _is_searched_weight(s)])
        self._at: dict[float, Plan] = {}

    @property
    def start(self) -> tuple[float, ...]:
        """The factors with which the search begins: as the norm gives them."""
        return (0.0,) * (len(self.edges) + len(self.weights))

    def plan_of(self, choice: Choice) -> Plan:
        """The plan with the ranges of a choice."""
        if choice.norm not in self._at:
            self._at[choice.norm] = self._by_norm(choice.norm)
        plan = self._at[choice.norm]
        changed: dict[str, SitePlan] = {}
        for names, step in zip(self.edges + self.weights, choice.steps, strict=True):
            for name in names:
                site = plan.sites[name]
                assert site.params is not None
                scale = (site.params.scale * np.float32(2.0**step)).astype(np.float32)
                if site.site.kind == "constant" and stores_float16(site.params.spec):
                    scale = float16_scales(scale)
                reason = f"{site.reason}; by the outputs: p = {choice.norm:.2f}, times {2.0**step:.2f}"
                changed[name] = replace(site, params=replace(site.params, scale=scale), reason=reason)
        return plan.with_sites(changed)

    def plain(self, why: str) -> Plan:
        """The plan whose ranges are those of least squared errors, for this reason."""
        return self.plan.with_sites(
            {
                name: replace(site, method="mse", reason=f"{site.reason}; mse: {why}")
                for name, site in self.plan.sites.items()
                if site.method == JOINT
            }
        )

    def _by_norm(self, norm: float) -> Plan:
        edges = {name: self.plan.sites[name] for names in self.edges for name in names}
        plan = self.plan.with_sites(choose_ranges(replace(self.plan, sites=edges), self.stats, norm=norm).sites)
        readers = {decision.weight: name for name, decision in self.plan.nodes.items() if decision.weight}
        nodes = {str(node.name): node for node in self.hub.nodes()}
        values = {str(value.name): value for value in self.hub.values()}
        found: dict[str, SitePlan] = {}
        for name in (name for names in self.weights for name in names):
            site = self.plan.sites[name]
            assert site.spec is not None
            array = balanced_weight(self.hub, self.plan, nodes[readers[name]], values[name])
            params: QParams = weight_params(array, site.spec, norm=norm)
            found[name] = replace(site, params=params)
        return plan.with_sites(found)


def search(start: tuple[float, ...], noise: Callable[[Choice], float]) -> Choice:
    """The choice of the least noise among at most `MOST_EVALUATIONS`.

    Args:
        start: log2 factors, all 0. noise: of the outputs, ≥ 0; NaN and infinity lose.
    """
    seen: dict[Choice, float] = {}

    def judged(choice: Choice) -> float:
        if choice not in seen:
            if len(seen) >= MOST_EVALUATIONS:
                raise _Spent
            value = noise(choice)
            seen[choice] = value if np.isfinite(value) else np.inf
        return seen[choice]

    def best() -> Choice:
        return min(seen, key=lambda choice: seen[choice])

    by_norm = [judged(Choice(norm, start)) for norm in NORMS]
    between = _parabola(np.array(by_norm))
    if between is not None:
        judged(Choice(between, start))
    norm = best().norm
    with suppress(_Spent):
        _powell(start, lambda steps: judged(Choice(norm, tuple(float(s) for s in steps))))
    return best()


class _Spent(Exception):  # noqa: N818  # no error: it ends a search inside a library
    """No more evaluations are allowed."""


def _parabola(noise: NDArray[np.float64]) -> float | None:
    """The p of least noise by a parabola through the results, if it has a minimum between them that was not tried."""
    finite = np.isfinite(noise)
    if finite.sum() < 3:
        return None
    norms = np.array(NORMS)
    square, linear, _ = np.polyfit(norms[finite], noise[finite], 2)
    if square <= 0.0:
        return None
    lowest = round(float(-linear / (2 * square)), 2)
    return lowest if norms[0] < lowest < norms[-1] and lowest not in NORMS else None


def _powell(start: tuple[float, ...], noise: Callable[[NDArray[np.float64]], float]) -> None:
    from scipy.optimize import minimize

    bounds = [(-_WIDEST, _WIDEST)] * len(start)
    minimize(noise, np.array(start), method="Powell", bounds=bounds, options={"xtol": _CLOSE, "ftol": 1e-3})


def _is_searched_weight(site: SitePlan) -> bool:
    """Whether the scales of a weight can be scaled freely: not those of pairs, which keep them from saturating."""
    return (
        site.site.kind == "constant"
        and site.method == JOINT
        and site.spec is not None
        and site.spec.dtype.is_integer
        and site.spec.codebook is None
        and site.spec.pair_limit is None
    )


def _runs(sites: list[SitePlan]) -> list[list[str]]:
    """Names of sites in topological order, in at most `_RUNS` runs of about as many groups each."""
    groups: dict[str, list[str]] = {}
    for site in sites:
        groups.setdefault(site.group or site.site.name, []).append(site.site.name)
    parts = np.array_split(np.arange(len(groups)), min(_RUNS, len(groups))) if groups else []
    members = list(groups.values())
    return [[name for index in part for name in members[index]] for part in parts]
