"""Whether the noises of layers add up, as the allocation of formats takes them to; and what to add where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewbit.flow.calibrate import Calibrator
from fewbit.flow.layer_formats import LEAST_NOISE, Measured
from fewbit.flow.outputs import OutputJudge
from fewbit.runtimes.session import Feed

ADDITIVE = 0.8
"""Rank correlation below which sums of noises do not tell which mixture is better."""

MOST_PAIRS = 200
"""Terms of pairs that are kept, the largest: each is a variable of the allocation."""

_MIXTURES = 6
_FEWEST = 3  # layers, of which mixtures can be made that differ

Key = tuple[str, str]
"""(weight, recipe)."""


@dataclass(frozen=True, slots=True)
class PairNoise:
    """What two layers in the formats of two recipes bring beyond the sum of both, as noise over signal (power)."""

    first: Key
    second: Key
    noise: float


@dataclass(frozen=True, slots=True)
class Additivity:
    """How well sums of the layers' noises foretell what random mixtures of formats bring.

    rank: Spearman's correlation. apart: median of expected - measured, dB. paired: the same correlation with `pairs` added,
    which is tried where the sums foretell poorly; else None. pairs: to be added as they foretell better then.
    """

    rank: float
    apart: float
    mixtures: int
    paired: float | None
    pairs: Sequence[PairNoise]

    def sentence(self) -> str:
        told = (
            f"the noises of layers foretell that of mixtures: rank correlation {self.rank:.2f} on {self.mixtures} random "
            f"ones, {self.apart:+.1f} dB"
        )
        if self.paired is not None:
            told += f"; with terms for pairs of layers whose errors go together, {self.paired:.2f}"
        if (self.rank if self.paired is None else max(self.rank, self.paired)) >= ADDITIVE:
            return told
        return f"{told}; below {ADDITIVE:g}, the order of mixtures is not to be trusted"


def additivity(job: Calibrator, measured: Measured, feeds: Sequence[Feed], seed: int) -> Additivity | None:
    """Build a few random mixtures, and say how well the sum of the layers' noises foretells theirs; None: too few layers.

    Of formats whose activations are float: integers of one layer would need those of its neighbours.
    """
    held = _held(measured)
    if len(held) < _FEWEST or all(len(names) < 2 for names in held.values()):
        return None
    noise = {
        (layer.weight, name): layer.formats[name].noise
        for layer in measured.layers
        for name in held.get(layer.weight, ())
    }
    generator = np.random.default_rng(seed)
    judge = OutputJudge(job.hub, feeds, job.format, (), job.step)
    mixtures, seen = [], []
    with job.progress.task("whether noises add up", _MIXTURES) as advance:
        for share in np.linspace(0.0, 1.0, _MIXTURES):  # from mostly narrow to mostly wide, so that they differ
            chosen = {
                weight: names[min(int(generator.beta(1 + 4 * (1 - share), 1 + 4 * share) * len(names)), len(names) - 1)]
                for weight, names in held.items()
            }
            mixtures.append(chosen)
            seen.append(_measured_sqnr(job, judge, measured, chosen))
            advance(1)
    expected = [_expected(noise, (), chosen) for chosen in mixtures]
    rank = _rank(expected, seen)
    apart = float(np.median(np.subtract(expected, seen)))
    if rank >= ADDITIVE:
        return Additivity(rank, apart, _MIXTURES, None, ())
    pairs = _pairs(measured, [*noise])
    paired = _rank([_expected(noise, pairs, chosen) for chosen in mixtures], seen)
    return Additivity(rank, apart, _MIXTURES, paired, pairs if paired > rank else ())


def _held(measured: Measured) -> dict[str, list[str]]:
    """Weight → the recipes that hold it and leave activations in float."""
    alone = {name for name, plan in measured.plans.items() if not plan.edges()}
    held = {layer.weight: [name for name in layer.formats if name in alone] for layer in measured.layers}
    return {weight: names for weight, names in held.items() if names}


def _measured_sqnr(job: Calibrator, judge: OutputJudge, measured: Measured, chosen: Mapping[str, str]) -> float:
    """dB of a mixture. chosen: weight → recipe."""
    plans = measured.plans
    nodes = {node: chosen[layer.weight] for layer in measured.layers if layer.weight in chosen for node in layer.nodes}
    first = next(plan for plan in plans.values() if not plan.edges())
    mixture = replace(
        first,
        sites={**first.sites, **{weight: plans[name].sites[weight] for weight, name in chosen.items()}},
        nodes={**first.nodes, **{node: plans[name].nodes[node] for node, name in nodes.items()}},
        biases={node: plans[name].biases[node] for node, name in nodes.items() if node in plans[name].biases},
    )
    return judge.sqnr(job.format.lower(job.hub, mixture))


def _expected(noise: Mapping[Key, float], pairs: Sequence[PairNoise], chosen: Mapping[str, str]) -> float:
    """dB of a mixture by the sum of noises."""
    keys = set(chosen.items())
    total = sum(noise[key] for key in keys) + sum(p.noise for p in pairs if {p.first, p.second} <= keys)
    return -10 * float(np.log10(max(total, 0.0) + LEAST_NOISE))


def _rank(expected: Sequence[float], seen: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    if np.ptp(expected) == 0 or np.ptp(seen) == 0:
        return 0.0
    return float(spearmanr(expected, seen).statistic)


def _pairs(measured: Measured, keys: Sequence[Key]) -> list[PairNoise]:
    """The largest terms of pairs, of different layers or of one whose weight several nodes read."""
    assert measured.interactions is not None
    cross = measured.interactions.cross(keys)
    found = [
        PairNoise(first, second, float(cross[i, j]))
        for i, first in enumerate(keys)
        for j, second in enumerate(keys[: i + 1])
        if (first[0] != second[0] or first == second) and cross[i, j] != 0.0
    ]
    return sorted(found, key=lambda pair: -abs(pair.noise))[:MOST_PAIRS]
