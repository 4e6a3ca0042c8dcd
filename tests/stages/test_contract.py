"""The stages keep the contract of every stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.graph.hub import Hub
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe, Rule
from fewbit.spec import INT4
from fewbit.stages.balance import balance
from fewbit.stages.choose_ranges import choose_ranges
from fewbit.stages.correct_bias import correct_biases
from fewbit.stages.joint_ranges import Choice, JointRanges
from fewbit.stages.round_weights import round_weights, rounded_nodes
from fewbit.stages.scale_weights import scale_weights
from fewbit.testing.stages import StageContract, Stats
from tests.models import Builder


class _Stage(StageContract):
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        """A depthwise layer whose input channels differ a hundredfold, a dense one, and a Softmax that stays float."""
        b = Builder()
        first = b.random.standard_normal((8, 3, 1, 1)).astype(np.float32)
        first[0] *= 100.0
        x = b.node("Conv", ["x", b.constant(first), b.weight(8)])
        x = b.node("Relu", [b.node("Conv", [x, b.weight(8, 1, 3, 3), b.weight(8)], group=8, pads=[1, 1, 1, 1])])
        x = b.node("GlobalAveragePool", [x])
        x = b.node("Gemm", [b.node("Flatten", [x]), b.weight(8, 4), b.weight(4)])
        b.node("Softmax", [x], "y", axis=-1)
        return b.save(tmp_path / "m.onnx", {"x": ("N", 3, 6, 6)}, ["y"])

    def feeds(self) -> list[dict[str, np.ndarray]]:
        random = np.random.default_rng(0)
        return [{"x": random.standard_normal((1, 3, 6, 6)).astype(np.float32)} for _ in range(6)]


class TestBalance(_Stage):
    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return balance(hub, plan, stats)


class TestChooseRanges(_Stage):
    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return choose_ranges(plan, stats)


class TestScaleWeights(_Stage):
    def before(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return choose_ranges(balance(hub, plan, stats), stats)

    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return scale_weights(hub, plan)


class TestCorrectBiases(_Stage):
    def before(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return scale_weights(hub, choose_ranges(balance(hub, plan, stats), stats))

    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return correct_biases(hub, plan, {name: seen.channel_mean for name, seen in stats.items()})


class TestRoundWeights(TestCorrectBiases):
    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return round_weights(hub, plan, rounded_nodes(hub, plan), self.feeds(), stats)


SEARCHED = {"range": "joint"}


class TestJointRanges(_Stage):
    recipe: Recipe = Recipe("joint", (Rule(weight={"dtype": INT4, **SEARCHED}, activation=SEARCHED),))

    def before(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        return scale_weights(hub, choose_ranges(plan, stats))

    def stage(self, hub: Hub, plan: Plan, stats: Stats) -> Plan:
        ranges = JointRanges(hub, plan, stats)
        return ranges.plan_of(Choice(2.0, (1.0,) * len(ranges.start)))

    def test_every_run_has_its_factor(self, model: Path) -> None:
        hub, plan, stats = self._case(model)
        ranges = JointRanges(hub, plan, stats)
        steps = tuple(np.linspace(-1.0, 1.0, len(ranges.start)))
        moved, still = (ranges.plan_of(Choice(3.0, s)) for s in (steps, ranges.start))
        assert len(ranges.edges) == 4 and len(ranges.weights) == 3
        for names, step in zip(ranges.edges + ranges.weights, steps, strict=True):
            for name in names:
                params, plain = moved.sites[name].params, still.sites[name].params
                assert params is not None and plain is not None
                assert np.allclose(params.scale, plain.scale * 2.0**step, rtol=1e-3)  # float16
