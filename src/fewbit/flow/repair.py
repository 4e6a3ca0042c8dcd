"""Repair: layers that quantization hurts most go back to float, and what is left of the error is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.collect import site_shapes
from fewbit.capture.noise import noise_of_nodes
from fewbit.flow.calibrate import Calibrator
from fewbit.flow.common import NAMED, some
from fewbit.flow.outputs import OutputJudge
from fewbit.graph.answers import decisions
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.measure.answers import answers_at_risk
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.runtimes.onnxruntime import Feed, open_session
from fewbit.stages.repair import perturbations, worst_nodes

_CHECK_SAMPLES = 16
_ROUNDS, _MOST_ROUNDS = 3, 8  # unasked, and where a figure was asked for
DEFAULT_MIN_SQNR = 20.0  # the noise is then a hundredth of the signal; below it answers begin to change
_MOST_WORK = 0.25  # of the multiplications that may go back to float unasked
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WORTH_IT = 3.0  # dB: less is not worth a layer in float
_MARGIN, _MOST_MARGIN = 1.0, 16.0  # dB more than asked for: the noises of nodes add up only roughly
_ANSWER_SAMPLES = 64
_BETTER = 6.0  # dB: half the noise
NO_FLOAT = "{} has no float to return layers to: recipe a16w8 keeps more, with activations of 16 bits"
_RISK = 0.005  # of the answers: what users most often say they can lose


def repair(job: Calibrator, recipe: Recipe, plan: Plan, min_sqnr: float | None, *, check_answers: bool = True) -> Plan:
    """The plan with as few nodes in float as it takes to reach `min_sqnr` dB at every output, on a few samples.

    A node is blamed by what it alone adds to the outputs of the float model (`fewbit.capture.noise`). Probabilities are
    judged by the scores behind them: at 0 and 1 they hide what the next sample will show. Without a figure asked for, nodes
    that would take more than a quarter of the work with them stay, and a note says so; and a note names those to blame where
    the noise is expected to change answers (`check_answers`). States that a recurrent model hands to its next call do not
    count then: on their own they say little about its answers.
    """
    hub, source = job.hub, job.source
    assert source is not None
    wanted = DEFAULT_MIN_SQNR if min_sqnr is None else min_sqnr
    feeds: list[Mapping[str, NDArray[np.generic]]] = list(islice(source.feeds(), _CHECK_SAMPLES))
    judge = _Judge(job, feeds, job.states() if min_sqnr is None else set())
    no_float = job.target.integers_only
    share = 0.0 if no_float else _MOST_WORK if min_sqnr is None else 1.0
    blamed: dict[str, str] = {}
    work: dict[str, float] = {}
    notes: list[str] = []
    first: list[str] = []
    reached = judge.sqnr(plan)
    margin = _MARGIN
    for _ in range(_ROUNDS if min_sqnr is None else _MOST_ROUNDS):
        noise = judge.noise(plan) if reached < wanted else {}
        if not noise:
            break
        first = _worst_first(noise)
        work = work or node_work(hub, feeds[0])
        left = share - sum(work.get(name, 0.0) for name in blamed)
        together = 10.0 ** (-reached / 10) / sum(noise.values())  # noises that are not independent add up to more
        worst, expected = worst_nodes(
            {name: ratio * max(together, 1.0) for name, ratio in noise.items()}, wanted + margin, work, left
        )
        if not worst or no_float:
            break
        why = {
            name: f"8 bits here alone leave {-10 * np.log10(max(noise[name], 1e-30)):.1f} dB at the output; "
            f"{wanted:g} dB are asked for"
            for name in worst
        }
        repaired = job.plan(recipe.demoting({**blamed, **why}))
        after = judge.sqnr(repaired)
        if after < reached + (_WORTH_IT if min_sqnr is None else 0.0):
            if min_sqnr is None or margin >= _MOST_MARGIN:
                break
            margin *= 2  # these layers alone do not help: with more of them
            continue
        plan, reached, blamed = repaired, after, {**blamed, **why}
        if expected < wanted:
            break  # the work that may go back to float is used up
    if reached < wanted and first:
        part = sum(work.get(name, 0.0) for name in first)
        advice = (
            NO_FLOAT.format(job.target.name)
            if no_float
            else f"--min-sqnr {wanted:g} returns as many layers to float as it takes"
            if min_sqnr is None
            else f"{wanted:g} dB are asked for, and no more layers in float bring them nearer"
        )
        notes.append(
            f"the outputs keep {reached:.1f} dB, most of the loss in {some(first)} ({part:.0%} of the work); {advice}"
        )
    elif check_answers and min_sqnr is None:
        notes += judge.answers(plan, reached)
    if blamed:
        notes.insert(0, f"{len(blamed)} layers that 8 bits hurt most compute in float: {some(blamed)}")
    return replace(plan, notes=(*plan.notes, *notes))


@dataclass
class _Judge:
    """Compares plans with the float model at its outputs, probabilities at the scores behind them."""

    job: Calibrator
    feeds: Sequence[Feed]
    ignore: Collection[str]

    def __post_init__(self) -> None:
        self.outputs = OutputJudge(self.job.hub, self.feeds, self.job.format, self.ignore, self.job.step)
        self.views = self.outputs.views

    def sqnr(self, plan: Plan) -> float:
        """The least SQNR in dB over the outputs that count."""
        return self.outputs.sqnr(self.job.lower(plan))

    def noise(self, plan: Plan) -> dict[str, float]:
        """Node → the noise-to-signal ratio that it alone brings to the outputs."""
        job = self.job
        found, samples = perturbations(job.hub, plan), self.feeds[: job.effort.noise_samples]
        if not found:
            return {}
        with job.progress.task("finding the layers to blame", len(found) * len(samples)) as advance:
            return noise_of_nodes(
                job.hub, found, samples, ignore=self.ignore, views=self.views, threads=job.threads, advance=advance
            )

    def answers(self, plan: Plan, reached: float) -> list[str]:
        """A note with the layers to blame, where the noise is expected to change more than a few answers."""
        names = [o.name for o in self.job.hub.outputs]
        wanted = sorted(decisions(self.job.hub) - set(self.ignore))
        if not wanted:
            return []
        assert self.job.source is not None
        sessions = open_session(self.job.hub.model), self.job.format.session(self.job.lower(plan))
        seen: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {name: ([], []) for name in wanted}
        for feed in islice(self.job.source.feeds(), _ANSWER_SAMPLES):
            for side, session in enumerate(sessions):
                outputs = dict(zip(names, session.run(feed), strict=True))
                for name in wanted:
                    scores = self.views.get(name, np.asarray)(outputs[name])
                    seen[name][side].append(scores.reshape(-1, scores.shape[-1]))
        risks = {name: answers_at_risk(*(np.concatenate(rows) for rows in both)) for name, both in seen.items()}
        name = max(risks, key=lambda n: risks[n])
        if risks[name] <= _RISK:
            return []
        noise = self.noise(plan)
        first = _worst_first(noise)
        part = sum(noise[n] for n in first) / sum(noise.values()) if noise else 0.0
        blame = f"; {part:.0%} of the noise that layers bring comes from {some(first)}" if first else ""
        advice = f"--min-sqnr {reached + _BETTER:.0f} returns as many layers to float as it takes"
        if self.job.target.integers_only:
            advice = NO_FLOAT.format(self.job.target.name)
        return [
            f"about {risks[name]:.1%} of the answers (highest value of {name}) are closer than the noise of {reached:.1f} dB "
            f"and may change{blame}; {advice}"
        ]


def _worst_first(noise: Mapping[str, float]) -> list[str]:
    return sorted(noise, key=lambda name: -noise[name])[:NAMED]


def node_work(hub: Hub, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """The share of the multiplications that each node with a weight does, for one feed."""
    counts = multiplications(hub, feed)
    total = sum(counts.values()) or 1.0
    return {name: count / total for name, count in counts.items()}


def multiplications(hub: Hub, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """How many each node with a weight does, for one feed."""
    return {name: done for name, (done, _) in products(hub, feed).items()}


def products(hub: Hub, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[float, float]]:
    """What each node with a weight does for one feed: multiplications, and elements that it writes."""
    nodes = [
        (node, weight) for node in hub.nodes() if (weight := weight_of(node)) is not None and node.op_type in _HEAVY
    ]
    shapes = site_shapes(hub, [str(node.outputs[0].name) for node, _ in nodes], feed)
    counts = {}
    for node, weight in nodes:
        elements = float(np.prod(shapes[str(node.outputs[0].name)]))
        counts[str(node.name)] = elements / weight.shape[weight.out_axis] * float(np.prod(weight.shape)), elements
    return counts
