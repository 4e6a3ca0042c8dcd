"""From a recipe to a plan with numbers: calibrate, balance, choose ranges, scale weights, correct biases, repair."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.collect import collect, site_shapes
from fewbit.capture.grid import GridFinder
from fewbit.capture.noise import noise_of_nodes
from fewbit.capture.range_errors import range_errors
from fewbit.capture.shift import mean_shifts
from fewbit.core.stats import TensorStats
from fewbit.data import DataSource
from fewbit.flow.common import hub_inputs, no_samples
from fewbit.formats.onnx.lower import lower
from fewbit.graph.facts import state_inputs
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.plan import Plan, Rewrite, SitePlan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.plan.rewrites import rewritten
from fewbit.plan.wiring import integer_source
from fewbit.progress import Progress
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import compare_outputs
from fewbit.stages.balance import balance
from fewbit.stages.choose_ranges import choose_ranges
from fewbit.stages.correct_bias import correct_biases, corrected
from fewbit.stages.expected_means import expected_means
from fewbit.stages.judge_ranges import judge_ranges, questions, unjudged
from fewbit.stages.repair import perturbations, worst_nodes
from fewbit.stages.rotate_stream import stream_rotation
from fewbit.stages.round_weights import not_rounded, round_weights, rounded_nodes, weight_size
from fewbit.stages.scale_weights import scale_weights
from fewbit.stages.shift_channels import channel_shifts
from fewbit.targets import Target

_SHIFT_SAMPLES = 12  # means over positions converge fast
_REBALANCE_SAMPLES = 8  # for the shape of a distribution whose extremes are known
_JUDGING_SAMPLES, _CONFIRMING_SAMPLES = 16, 32
_CHECK_SAMPLES = 4
_SMALL = 1 << 19  # weights up to which rounding takes a few seconds at most, so that it is done for 8 bits too
_ROUNDS = 3
DEFAULT_MIN_SQNR = 20.0  # the noise is then a hundredth of the signal; below it answers begin to change
_MOST_WORK = 0.25  # of the multiplications that may go back to float unasked
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WORTH_IT = 3.0  # dB: less is not worth a layer in float
_NAMED = 5  # layers in a note; the plan names all
_MARGIN = 1.0  # dB more than asked for: the noises of nodes add up only roughly


@dataclass(frozen=True, slots=True)
class Effort:
    """How far to go.

    samples: for calibration (None: all). values: of a sample and site that enter the histogram. shifts: whether biases are
    corrected for rounded activations too. noise_samples: of the search for the layers to blame, 0 for no search.
    rounding_samples: for rounding weights by the outputs of their layers, 0 for the nearest integers. round_all: weights of 7
    and 8 bits also in networks that are not small.
    """

    samples: int | None
    values: int
    shifts: bool
    noise_samples: int
    rounding_samples: int
    round_all: bool


EFFORTS = {
    "fast": Effort(samples=32, values=4096, shifts=False, noise_samples=0, rounding_samples=0, round_all=False),
    "standard": Effort(samples=128, values=8192, shifts=True, noise_samples=2, rounding_samples=64, round_all=False),
    "max": Effort(samples=None, values=65536, shifts=True, noise_samples=8, rounding_samples=256, round_all=True),
}


@dataclass
class Calibrator:
    """Makes plans of one graph for one target, and keeps what the samples showed between them.

    original: the graph as it was given; `hub` is what the rewrites of its recipe make of it.
    source: None where no samples were given; plans that need some are refused.
    """

    original: Hub
    target: Target
    threads: int
    progress: Progress
    effort: Effort = EFFORTS["standard"]
    source: DataSource | None = None
    stats: dict[str, TensorStats] = field(default_factory=dict)
    grids: dict[str, float] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] = ()
    _lowered: tuple[Mapping[str, SitePlan], ir.Model] | None = None

    def __post_init__(self) -> None:
        self.hub = self.original

    def lower(self, plan: Plan) -> ir.Model:
        """The quantized model of a plan; that of the last plan is kept."""
        if self._lowered is None or self._lowered[0] is not plan.sites:
            self._lowered = (plan.sites, lower(self.original, plan))
        return self._lowered[1]

    def plan(self, recipe: Recipe) -> Plan:
        """The recipe's plan, with all numbers."""
        self._rewrite(recipe)
        plan = self._resolved(recipe)
        if not plan.edges():
            if self.source is not None:
                self._look(plan, self.source)
            means = expected_means(self.hub) if self.source is None else self._means()
            return self._round(correct_biases(self.hub, scale_weights(self.hub, plan), means))
        if self.source is None:
            raise no_samples(f"recipe {plan.recipe}")
        self._look(plan, self.source)
        samples = max((seen.samples for seen in self.stats.values()), default=0)
        plan = replace(plan, calibration={"samples": samples, "source": self.source.description})
        plan = balance(self.hub, plan, self.stats)
        stats = {**self.stats, **self._divided(plan, self.source)}
        plan = choose_ranges(plan, stats, self.grids)
        return self._round(self._judged(plan, stats, self.source))

    def _resolved(self, recipe: Recipe) -> Plan:
        plan = resolve(self.hub, recipe, self.target)
        idle = "shift" in recipe.rewrites and not any(rewrite.kind == "shift" for rewrite in self.rewrites)
        note = "rewrite shift did nothing: no activation has a range that it would shrink and biases could make up for"
        notes = (note,) if idle else ()
        return replace(plan, fingerprint=self.original.fingerprint(), rewrites=self.rewrites, notes=notes)

    def _rewrite(self, recipe: Recipe) -> None:
        """Make the rewrites that the recipe asks for, once: all plans of this job are for the graph that they give."""
        if self.rewrites or not recipe.rewrites:
            return
        if "rotate" in recipe.rewrites:
            self._apply(stream_rotation(self.hub))
        plan = resolve(self.hub, recipe, self.target)
        if "shift" in recipe.rewrites and plan.edges() and self.source is not None:
            self._look(plan, self.source)
            self._apply(channel_shifts(self.hub, plan, self.stats, self.grids))

    def _apply(self, rewrites: tuple[Rewrite, ...]) -> None:
        self.hub = rewritten(self.hub, rewrites)
        self.rewrites += rewrites

    def _judged(self, plan: Plan, stats: Mapping[str, TensorStats], source: DataSource) -> Plan:
        """The plan with the ranges that are left to the layers that read them, if on samples that had no say in it the
        outputs are no worse for it."""
        if not any(site.method == "auto" for site in plan.edges().values()):
            return self._corrected(plan, source)
        feeds = list(islice(source.feeds(), _JUDGING_SAMPLES + _CONFIRMING_SAMPLES))
        judging, confirming = feeds[: len(feeds) // 3], feeds[len(feeds) // 3 :]
        plain = self._corrected(unjudged(plan, "mse: its readers found no better range"), source)
        asked = questions(self.hub, scale_weights(self.hub, plan), stats) if len(judging) > 1 else []
        if not asked:
            return plain
        errors = range_errors(self.hub, asked, judging, threads=self.threads)
        judged = self._corrected(judge_ranges(plan, asked, errors), source)
        before, after = (
            output_sqnr(self.hub, self.lower(p), confirming, self.states(), scores=True) for p in (plain, judged)
        )
        if after >= before:
            return judged
        note = f"ranges that are better for their readers are not for the outputs ({before:.1f} dB, {after:.1f} dB with them)"
        return replace(plain, notes=(*plain.notes, f"{note}: least squared errors kept"))

    def _corrected(self, plan: Plan, source: DataSource) -> Plan:
        """The plan with its weights scaled and its biases corrected."""
        shifts = self._shifts(plan, source) if self.effort.shifts else {}
        return correct_biases(self.hub, scale_weights(self.hub, plan), self._means(), shifts)

    def _means(self) -> dict[str, NDArray[np.float64]]:
        return {name: seen.channel_mean for name, seen in self.stats.items()}

    def _round(self, plan: Plan) -> Plan:
        """The plan with its weights rounded by the outputs of their layers, where there are samples and that pays: those of
        few bits, and in small networks those of 7 and 8 bits too. What a few samples tell about the states of a recurrent
        model does not hold for later calls, so its 8 bits stay the nearest."""
        count = self.effort.rounding_samples
        if self.source is None or not count:
            return plan
        left = not_rounded(self.hub, plan)
        if left:
            note = (
                f"weights of few bits that keep the nearest integers: {_some(left)} (shared by layers, of an op whose inputs "
                "are not looked at, or of more than 4096 inputs)"
            )
            plan = replace(plan, notes=(*plan.notes, note))
        nodes = rounded_nodes(self.hub, plan)
        small = sum(map(weight_size, self.hub.nodes())) <= _SMALL and not self.states()
        if not (small or self.effort.round_all):
            nodes = rounded_nodes(self.hub, plan, all_bits=False)
        if not nodes:
            return plan
        feeds = islice(self.source.feeds(), count)
        with self.progress.task("rounding weights by their layers' outputs", len(nodes)) as advance:
            return round_weights(
                self.hub,
                plan,
                nodes,
                feeds,
                self.stats,
                thorough=self.effort.round_all,
                threads=self.threads,
                advance=advance,
            )

    def states(self) -> set[str]:
        """Outputs that a recurrent model hands to its next call."""
        return {s.output for s in state_inputs(self.hub) if s.output is not None}

    def _look(self, plan: Plan, source: DataSource) -> None:
        """One float pass: statistics of the plan's edges and of inputs whose weights are corrected, as far as not known."""
        sites = {name: site.channel_axis for name, site in plan.edges().items()}
        for node in self.hub.nodes():
            if corrected(plan, node):
                sites.setdefault(str(node.inputs[0].name), 1 if node.op_type == "Conv" else -1)  # type: ignore[union-attr]
        sites = {name: axis for name, axis in sites.items() if name not in self.stats}
        if not sites:
            return
        finder = GridFinder(info.name for info in hub_inputs(self.hub) if info.name in sites)
        with self.progress.task("calibrating", source.count) as advance:
            feeds = finder.watch(source.feeds())
            self.stats |= collect(
                self.hub, sites, feeds, max_values=self.effort.values, threads=self.threads, advance=advance
            )
        self.grids |= finder.found()

    def _divided(self, plan: Plan, source: DataSource) -> dict[str, TensorStats]:
        """Statistics of the balanced edges after division, from a few samples; their extremes from all of them."""
        factors = {name: site.balance for name, site in plan.edges().items() if site.balance is not None}
        if not factors:
            return {}
        sites = {name: plan.sites[name].channel_axis for name in factors}
        feeds = islice(source.feeds(), _REBALANCE_SAMPLES)
        seen = collect(self.hub, sites, feeds, threads=self.threads, factors=factors)
        for name, divided in seen.items():
            divided.channel_min = self.stats[name].channel_min / factors[name]
            divided.channel_max = self.stats[name].channel_max / factors[name]
        return seen

    def _shifts(self, plan: Plan, source: DataSource) -> dict[str, NDArray[np.float64]]:
        """How far quantization moves the channel means of the inputs of nodes whose bias is corrected."""
        sites = {}
        for node in self.hub.nodes():
            value = node.inputs[0] if node.inputs else None
            if value is None or not corrected(plan, node):
                continue
            site = integer_source(plan, value)
            if site is not None and site.params is not None and site.params.spec.dtype.bits <= 8:
                sites[str(value.name)] = (1 if node.op_type == "Conv" else -1, site.params, site.balance)
        return mean_shifts(self.hub, sites, islice(source.feeds(), _SHIFT_SAMPLES), threads=self.threads)


def repair(job: Calibrator, recipe: Recipe, plan: Plan, min_sqnr: float | None) -> Plan:
    """The plan with as few nodes in float as it takes to reach `min_sqnr` dB at every output, on a few samples.

    A node is blamed by what it alone adds to the outputs of the float model (`fewbit.capture.noise`). Without a figure
    asked for, nodes that would take more than a quarter of the work with them stay, and a note says so. States that a
    recurrent model hands to its next call do not count then: on their own they say little about its answers.
    """
    hub, source = job.hub, job.source
    assert source is not None
    wanted = DEFAULT_MIN_SQNR if min_sqnr is None else min_sqnr
    states = job.states() if min_sqnr is None else set()
    feeds: list[Mapping[str, NDArray[np.generic]]] = list(islice(source.feeds(), _CHECK_SAMPLES))
    share = _MOST_WORK if min_sqnr is None else 1.0
    blamed: dict[str, str] = {}
    work: dict[str, float] = {}
    notes: list[str] = []
    first: list[str] = []
    reached = output_sqnr(hub, job.lower(plan), feeds, states)
    for _ in range(_ROUNDS):
        found = perturbations(hub, plan) if reached < wanted else []
        if not found:
            break
        with job.progress.task(
            "finding the layers to blame", len(found) * min(job.effort.noise_samples, len(feeds))
        ) as advance:
            noise = noise_of_nodes(
                hub, found, feeds[: job.effort.noise_samples], ignore=states, threads=job.threads, advance=advance
            )
        first = sorted(noise, key=lambda name: -noise[name])[:_NAMED]
        work = work or node_work(hub, feeds[0])
        left = share - sum(work.get(name, 0.0) for name in blamed)
        worst, expected = worst_nodes(noise, wanted + _MARGIN, work, left)
        why = {
            name: f"8 bits here alone leave {-10 * np.log10(max(noise[name], 1e-30)):.1f} dB at the output; "
            f"{wanted:g} dB are asked for"
            for name in worst
        }
        repaired = job.plan(recipe.demoting({**blamed, **why})) if worst else plan
        after = output_sqnr(hub, job.lower(repaired), feeds, states) if worst else reached
        if after < reached + _WORTH_IT:
            break
        plan, reached, blamed = repaired, after, {**blamed, **why}
        if expected < wanted:
            break  # the work that may go back to float is used up
    if reached < wanted and first:
        part = sum(work.get(name, 0.0) for name in first)
        notes.append(
            f"the outputs keep {reached:.1f} dB, most of the loss in {', '.join(first)} ({part:.0%} of the work); "
            f"--min-sqnr {wanted:g} returns as many layers to float as it takes"
        )
    if blamed:
        notes.insert(0, f"{len(blamed)} layers that 8 bits hurt most compute in float: {_some(blamed)}")
    return replace(plan, notes=(*plan.notes, *notes))


def _some(names: Collection[str]) -> str:
    shown = list(names)[:_NAMED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def node_work(hub: Hub, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """The share of the multiplications that each node with a weight does, for one feed."""
    nodes = [
        (node, weight) for node in hub.nodes() if (weight := weight_of(node)) is not None and node.op_type in _HEAVY
    ]
    shapes = site_shapes(hub, [str(node.outputs[0].name) for node, _ in nodes], feed)
    counts = {}
    for node, weight in nodes:
        positions = np.prod(shapes[str(node.outputs[0].name)]) / weight.shape[weight.out_axis]
        counts[str(node.name)] = float(positions * np.prod(weight.shape))
    total = sum(counts.values()) or 1.0
    return {name: count / total for name, count in counts.items()}


def output_sqnr(
    hub: Hub,
    quantized: ir.Model,
    feeds: Sequence[Mapping[str, NDArray[np.generic]]],
    ignore: Collection[str] = (),
    *,
    scores: bool = False,
) -> float:
    """The least SQNR in dB over the numeric outputs, in the runtime.

    scores: compare what goes into a Softmax in place of an output that it makes; of sure answers that shows no error.
    """
    models = [_with_scores(model) if scores else model for model in (hub.model, quantized)]
    outputs = compare_outputs(open_session(models[0]), open_session(models[1]), feeds)
    return min((o.sqnr for o in outputs if o.per_sample and o.name not in ignore), default=float("inf"))


def _with_scores(model: ir.Model) -> ir.Model:
    result = model.clone()
    for index, output in enumerate(result.graph.outputs):
        node = output.producer()
        if node is not None and node.op_type == "Softmax" and node.inputs[0] is not None:
            result.graph.outputs[index] = node.inputs[0]
    return result
