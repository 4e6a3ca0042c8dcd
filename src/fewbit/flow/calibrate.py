"""From a recipe to a plan with numbers: calibrate, balance, choose ranges, scale weights, correct biases, round."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.collect import collect
from fewbit.capture.grid import GridFinder
from fewbit.capture.range_errors import range_errors
from fewbit.core.excerpt import Excerpt
from fewbit.core.stats import TensorStats
from fewbit.data import DataSource
from fewbit.data.check import Feed
from fewbit.errors import RecipeError
from fewbit.flow.common import hub_inputs, no_samples, some
from fewbit.flow.formats import ModelFormat, format_of
from fewbit.flow.joint import SAMPLES, not_searched, search_jointly
from fewbit.flow.outputs import OutputJudge
from fewbit.graph.facts import state_inputs
from fewbit.graph.hub import Hub
from fewbit.plan.plan import Plan, Rewrite, SitePlan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.plan.rewrites import rewritten
from fewbit.plan.wiring import integer_source
from fewbit.progress import Progress
from fewbit.stages.balance import balance
from fewbit.stages.choose_ranges import JOINT, choose_ranges
from fewbit.stages.correct_bias import correct_biases, corrected
from fewbit.stages.expected_means import expected_means
from fewbit.stages.judge_ranges import judge_ranges, questions, unjudged
from fewbit.stages.rotate_stream import stream_rotation
from fewbit.stages.round_weights import not_rounded, round_weights, rounded_nodes, weight_size
from fewbit.stages.scale_channels import channel_factors, scalable_values
from fewbit.stages.scale_weights import SEQUENTIAL, scale_weights
from fewbit.stages.sequential_scales import unsearched
from fewbit.stages.shift_channels import channel_shifts
from fewbit.targets import Target

_BATCH = 8  # takes a quarter to a half off the pass of a small network; more gain little (docs/benchmarks.md)
_JUDGING_SAMPLES, _CONFIRMING_SAMPLES = 16, 32
_SMALL = 1 << 19  # weights up to which rounding takes a few seconds at most, so that it is done for 8 bits too


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
    source: None where no samples were given; plans that need some are refused. batch: how many of them may run at
    once (None: 8; where that is not possible, no note says so).
    """

    original: Hub
    target: Target
    threads: int
    progress: Progress
    effort: Effort = EFFORTS["standard"]
    source: DataSource | None = None
    batch: int | None = None
    stats: dict[str, TensorStats] = field(default_factory=dict)
    excerpts: dict[str, Excerpt] = field(default_factory=dict)
    grids: dict[str, float] = field(default_factory=dict)
    rewrites: tuple[Rewrite, ...] = ()
    _rewritten: bool = False
    _unscaled: tuple[str, ...] = ()
    _used: int = 0
    _at_once: int = 1
    _one_by_one: str | None = None
    _lowered: tuple[Mapping[str, SitePlan], ir.Model] | None = None

    def __post_init__(self) -> None:
        self.hub = self.original

    def lower(self, plan: Plan) -> ir.Model:
        """The quantized model of a plan; that of the last plan is kept."""
        if self._lowered is None or self._lowered[0] is not plan.sites:
            self._lowered = (plan.sites, self.format.lower(self.original, plan))
        return self._lowered[1]

    @property
    def format(self) -> ModelFormat:
        """Of the files that the target runs."""
        return format_of(self.target)

    def plan(self, recipe: Recipe) -> Plan:
        """The recipe's plan, with all numbers, and what they were taken from."""
        return self._labelled(self._plan(recipe))

    def _plan(self, recipe: Recipe) -> Plan:
        self._rewrite(recipe)
        plan = self._resolved(recipe)
        if not plan.edges():
            plan = not_searched(self.hub, plan)
            if self.source is not None:
                self._look(plan, self.source)
            means = expected_means(self.hub) if self.source is None else self._means()
            return self._round(correct_biases(self.hub, scale_weights(self.hub, plan), means))
        if self.source is None:
            raise no_samples(f"recipe {plan.recipe}")
        self._look(plan, self.source)
        plan = balance(self.hub, plan, self.stats)
        stats = {**self.stats, **self._divided(plan)}
        plan = choose_ranges(plan, stats, self.grids)
        methods = {site.method for site in plan.sites.values()}
        if JOINT not in methods:
            return self._round(self._judged(plan, stats, self.source))
        if "auto" in methods:
            raise RecipeError(f"recipe {plan.recipe} asks for ranges {JOINT} and auto: use one of them")
        return search_jointly(
            self.hub,
            plan,
            stats,
            list(deque(self._counted(self.source.feeds()), SAMPLES)),  # the last, for rounding takes the first
            corrected=self._corrected,
            rounded=self._round,
            lower=self.lower,
            format=self.format,
            ignore=self.states(),
            progress=self.progress,
        )

    def _labelled(self, plan: Plan) -> Plan:
        """The plan with the samples that had a say in it, and that they were synthetic where they were."""
        if self.source is None or not self._used:
            return plan
        calibration: dict[str, Any] = {
            "samples": self._used,
            "source": self.source.description,
            "batch": self._at_once,
        }
        notes = []
        if self.source.synthetic is not None:
            calibration["synthetic"] = self.source.synthetic
            notes.append(
                f"calibrated on synthetic samples, made from {self.source.synthetic}: no real data was seen; run "
                "`fewbit eval` on some before shipping"
            )
        if self._one_by_one is not None:
            calibration["one_by_one"] = self._one_by_one
            if self.batch is not None:
                notes.append(f"samples run one by one: {self._one_by_one}")
        return replace(plan, calibration=calibration, notes=(*plan.notes, *notes))

    def _resolved(self, recipe: Recipe) -> Plan:
        plan = resolve(self.hub, recipe, self.target)
        idle = "shift" in recipe.rewrites and not any(rewrite.kind == "shift" for rewrite in self.rewrites)
        note = "rewrite shift did nothing: no activation has a range that it would shrink and biases could make up for"
        notes = ((note,) if idle else ()) + self._unscaled
        return replace(plan, fingerprint=self.original.fingerprint(), rewrites=self.rewrites, notes=notes)

    def _rewrite(self, recipe: Recipe) -> None:
        """Make the rewrites that the recipe asks for, once: all plans of this job are for the graph that they give."""
        if self._rewritten or not recipe.rewrites:
            return
        self._rewritten = True
        if "rotate" in recipe.rewrites:
            self._apply(stream_rotation(self.hub))
        plan = resolve(self.hub, recipe, self.target)
        if "shift" in recipe.rewrites and plan.edges() and self.source is not None:
            self._look(plan, self.source)
            self._apply(channel_shifts(self.hub, plan, self.stats, self.grids))
        if "awq" in recipe.rewrites:
            if self.source is None:
                raise no_samples("rewrite awq")
            self._scale_channels(recipe, self.source)

    def _scale_channels(self, recipe: Recipe, source: DataSource) -> None:
        plan = resolve(self.hub, recipe, self.target)
        values, left = scalable_values(self.hub, plan)
        feeds = self._counted(islice(source.feeds(), self.effort.rounding_samples or self.effort.samples))
        rewrites: tuple[Rewrite, ...] = ()
        if values:
            with self.progress.task("scaling the inputs of weights", len(values)) as advance:
                rewrites = channel_factors(self.hub, plan, values, feeds, threads=self.threads, advance=advance)
            self._apply(rewrites)
        why = "no weights of integers beside float activations" if not values else "it would gain nothing"
        if left:
            name, reason = next(iter(left.items()))
            why = f"{len(left)} values stay as they are: {name}, as {reason}"
        if not rewrites or left:
            self._unscaled = (f"rewrite awq scaled {len(rewrites)} values; {why}",)

    def _apply(self, rewrites: tuple[Rewrite, ...]) -> None:
        self.hub = rewritten(self.hub, rewrites)
        self.rewrites += rewrites

    def _judged(self, plan: Plan, stats: Mapping[str, TensorStats], source: DataSource) -> Plan:
        """The plan with the ranges that are left to the layers that read them, if on samples that had no say in it the
        outputs are no worse for it."""
        if not any(site.method == "auto" for site in plan.edges().values()):
            return self._corrected(plan)
        feeds = list(islice(source.feeds(), _JUDGING_SAMPLES + _CONFIRMING_SAMPLES))
        judging, confirming = feeds[: len(feeds) // 3], feeds[len(feeds) // 3 :]
        plain = self._corrected(unjudged(plan, "mse: its readers found no better range"))
        asked = questions(self.hub, scale_weights(self.hub, plan), stats) if len(judging) > 1 else []
        if not asked:
            return plain
        errors = range_errors(self.hub, asked, judging, threads=self.threads)
        judged = self._corrected(judge_ranges(plan, asked, errors))
        judge = OutputJudge(self.hub, confirming, self.format, self.states())
        before, after = (judge.sqnr(self.lower(p)) for p in (plain, judged))
        if after >= before:
            return judged
        note = f"ranges that are better for their readers are not for the outputs ({before:.1f} dB, {after:.1f} dB with them)"
        return replace(plain, notes=(*plain.notes, f"{note}: least squared errors kept"))

    def _corrected(self, plan: Plan) -> Plan:
        """The plan with its weights scaled and its biases corrected."""
        shifts = self._shifts(plan) if self.effort.shifts else {}
        return correct_biases(self.hub, scale_weights(self.hub, plan), self._means(), shifts)

    def _means(self) -> dict[str, NDArray[np.float64]]:
        return {name: seen.channel_mean for name, seen in self.stats.items()}

    def _round(self, plan: Plan) -> Plan:
        """The plan with its weights rounded by the outputs of their layers, where there are samples and that pays: those of
        few bits, and in small networks those of 7 and 8 bits too. What a few samples tell about the states of a recurrent
        model does not hold for later calls, so its 8 bits stay the nearest."""
        count = self.effort.rounding_samples
        asked = any(site.method == SEQUENTIAL for site in plan.constants().values())
        if self.source is None and asked:
            raise no_samples(f"range {SEQUENTIAL} of weights")
        if self.source is None or not count:
            return _with_unsearched(self.hub, plan, ()) if asked else plan
        left = not_rounded(self.hub, plan)
        if left:
            note = (
                f"weights of few bits that keep the nearest integers: {some(left)} (shared by layers, of an op whose inputs "
                "are not looked at, or of more than 4096 inputs)"
            )
            plan = replace(plan, notes=(*plan.notes, note))
        nodes = rounded_nodes(self.hub, plan)
        small = sum(map(weight_size, self.hub.nodes())) <= _SMALL and not self.states()
        if not (small or self.effort.round_all):
            nodes = rounded_nodes(self.hub, plan, all_bits=False)
        if asked:
            plan = _with_unsearched(self.hub, plan, nodes)
        if not nodes:
            return plan
        feeds = self._counted(islice(self.source.feeds(), count))
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

    def _counted(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """The same feeds; how many there were is kept."""
        for index, feed in enumerate(feeds):
            self._used = max(self._used, index + 1)
            yield feed

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
            feeds = finder.watch(self._counted(source.feeds()))
            seen = collect(
                self.hub,
                sites,
                feeds,
                max_values=self.effort.values,
                batch=_BATCH if self.batch is None else self.batch,
                threads=self.threads,
                advance=advance,
            )
        self._at_once, self._one_by_one = max(self._at_once, seen.batch), self._one_by_one or seen.one_by_one
        self.stats |= seen.stats
        self.excerpts |= seen.excerpts
        self.grids |= finder.found()

    def _divided(self, plan: Plan) -> dict[str, TensorStats]:
        """Statistics of the balanced edges after division."""
        return {
            name: self.stats[name].divided(site.balance, self.excerpts[name].histogram(site.balance))
            for name, site in plan.edges().items()
            if site.balance is not None
        }

    def _shifts(self, plan: Plan) -> dict[str, NDArray[np.float64]]:
        """How far quantization moves the channel means of the inputs of nodes whose bias is corrected."""
        shifts = {}
        for node in self.hub.nodes():
            value = node.inputs[0] if node.inputs else None
            if value is None or not corrected(plan, node):
                continue
            site = integer_source(plan, value)
            if site is not None and site.params is not None and site.params.spec.dtype.bits <= 8:
                moved = self.excerpts[str(value.name)].shifts(site.params, site.balance)
                if moved is not None:
                    shifts[str(value.name)] = moved
        return shifts


def _with_unsearched(hub: Hub, plan: Plan, nodes: Sequence[ir.Node]) -> Plan:
    """The plan with a note on the weights that ask for scales by their layers' outputs and do not get them."""
    left = unsearched(hub, plan, {str(node.name) for node in nodes})
    if not left:
        return plan
    note = (
        f"weights whose scales are those of range mse, not of {SEQUENTIAL}: {some(left)} (not rounded by their outputs: "
        "shared, of an op whose inputs are not looked at, or effort fast; one scale for all groups; or pairs that must not "
        "saturate)"
    )
    return replace(plan, notes=(*plan.notes, note))
