"""What every stage must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.capture.collect import collect
from fewbit.core.stats import TensorStats
from fewbit.flow.common import target_for
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.plan.io import to_dict
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.spec import Site

Stats = Mapping[str, TensorStats]


class StageContract:
    """Inherit, give a fixture `model` (a path), `feeds()` and `stage(hub, plan, stats)`; pytest runs the rest.

    The model must be one for which the stage has something to decide. `before` makes the plan that the stage is given of a
    resolved one: the stages that run earlier.
    """

    recipe: str | Recipe = "int8"
    target = "ort-cpu"

    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        """The stage: the plan with its decisions."""
        raise NotImplementedError

    def before(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return plan

    def feeds(self) -> Sequence[Mapping[str, np.ndarray[Any, Any]]]:
        """A few samples that the model takes."""
        raise NotImplementedError

    def test_gives_a_new_plan_and_leaves_its_arguments(self, model: Path) -> None:
        hub, plan, stats = self._case(model)
        graph, given, seen = hub.fingerprint(), contents(plan), _numbers(stats)
        result = self.stage(hub, plan, stats)
        assert result is not plan and contents(result) != given, "the stage decides nothing about this model"
        assert contents(plan) == given
        assert hub.fingerprint() == graph
        assert _numbers(stats) == seen

    def test_is_deterministic(self, model: Path) -> None:
        hub, plan, stats = self._case(model)
        assert contents(self.stage(hub, plan, stats)) == contents(self.stage(hub, plan, stats))

    def test_touches_only_sites_that_are_quantized(self, model: Path) -> None:
        hub, plan, stats = self._case(model)
        result = self.stage(hub, plan, stats)
        assert set(result.sites) == set(plan.sites) and set(result.nodes) == set(plan.nodes)
        for name, site in plan.sites.items():
            assert result.sites[name].site == site.site and result.sites[name].spec == site.spec, name
            if site.spec is None:
                assert result.sites[name] is site, f"{name} stays float, and the stage decided something about it"
        assert (result.fingerprint, result.target, result.recipe) == (plan.fingerprint, plan.target, plan.recipe)

    def test_every_site_and_node_keeps_a_reason(self, model: Path) -> None:
        result = self.stage(*self._case(model))
        reasons = [site.reason for site in result.sites.values()] + [node.reason for node in result.nodes.values()]
        assert all(reasons)

    def test_its_decisions_survive_a_file(self, model: Path, tmp_path: Path) -> None:
        result = self.stage(*self._case(model))
        result.save(str(tmp_path / "plan.json"))
        assert contents(Plan.load(str(tmp_path / "plan.json"))) == contents(result)

    def _case(self, model: Path) -> tuple[Hub, Plan, Stats]:
        hub = load(model)
        plan = resolve(hub, Recipe.get(self.recipe), target_for(self.target))
        plan = plan.with_sites({(site := _float_site(hub, plan)).site.name: site})
        edges = {name: site.channel_axis for name, site in plan.sites.items() if site.site.kind == "edge"}
        stats = collect(hub, edges, self.feeds()).stats
        return hub, self.before(hub, replace(plan, calibration={"samples": len(self.feeds())}), stats), stats


def _float_site(hub: Hub, plan: Plan) -> SitePlan:
    """A site that stays float: a tempting one, with statistics as all others have."""
    for position, node in enumerate(hub.nodes()):
        for value in node.outputs:
            if str(value.name) not in plan.sites:
                return SitePlan(Site(str(value.name), "edge", position), None, "stays float", channel_axis=-1)
    raise AssertionError("the contract needs a model in which some value stays float")


def contents(plan: Plan) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """All that a plan holds, to be compared: its document, and the dtype, shape and bytes of each array."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    document = to_dict(plan, arrays)
    return document, {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}


def _numbers(stats: Stats) -> dict[str, tuple[Any, ...]]:
    return {
        name: (
            s.samples,
            s.count,
            *(a.tobytes() for a in (s.channel_min, s.channel_max, s.channel_sum, *s.histogram.support())),
        )
        for name, s in stats.items()
    }
