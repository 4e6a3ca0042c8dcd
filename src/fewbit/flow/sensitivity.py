"""How much noise each layer brings to the outputs in each format, without labels; and whether these noises add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.capture.noise import noise_of_nodes
from fewbit.errors import ModelError, RecipeError
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, some, target_for
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.narrow import stored_bytes, stored_narrow
from fewbit.flow.opening import ImportOptions, load, open_models
from fewbit.flow.outputs import OutputJudge, score_views
from fewbit.flow.quantize import check_float
from fewbit.flow.repair import NO_FLOAT, node_work
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.session import Feed
from fewbit.search.widen import Widening, widen
from fewbit.stages.repair import perturbations
from fewbit.targets import Target

NOISE_SAMPLES = 8
"""On ResNet-20, DS-CNN and MiniLM the noise of every layer with 8 samples is within 2 dB of that with 32, and ranks them
alike (0.91 to
0.99); with 2 samples the rank correlation falls to 0.65."""
RECIPES = ("fp16", "int8-weights", "int4-weights", "int8")
"""What is tried where no recipe is asked for; where a target computes in integers alone, the last."""

_MIXTURES = 6
_FEWEST = 3  # layers, of which mixtures can be made that differ
_ADDITIVE = 0.8
_LEAST = 1e-12  # of the signal: noise that float32 itself brings
_BYTE = 8  # bits from which on the next wider format is float


@dataclass(frozen=True, slots=True)
class FormatNoise:
    """One layer alone in the format of one recipe: the bytes of its weight in a file, the elements' dtype, and noise over
    signal (power) at the output that suffers most."""

    bytes: int
    dtype: str
    bits: int
    noise: float

    @property
    def sqnr(self) -> float:
        """dB."""
        return -10 * float(np.log10(max(self.noise, _LEAST)))


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """A weight, the nodes that read it (the first gives the layer its name), and recipe → what its format does."""

    weight: str
    name: str
    nodes: tuple[str, ...]
    formats: Mapping[str, FormatNoise]


@dataclass(frozen=True, slots=True)
class Additivity:
    """How well sums of the layers' noises foretell what random mixtures of formats bring.

    rank: Spearman's correlation. apart: median of expected - measured, dB.
    """

    rank: float
    apart: float
    mixtures: int

    def sentence(self) -> str:
        told = (
            f"the noises of layers foretell that of mixtures: rank correlation {self.rank:.2f} on {self.mixtures} random "
            f"ones, {self.apart:+.1f} dB"
        )
        return (
            told
            if self.rank >= _ADDITIVE
            else f"{told}; below {_ADDITIVE:g}, the order of mixtures is not to be trusted"
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """Plans by recipe, the layers that some recipe narrows, and whether their noises add up (None: too few of them)."""

    plans: Mapping[str, Plan]
    layers: Sequence[LayerNoise]
    additivity: Additivity | None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a model: what it takes in float, its share of the multiplications, and what each format does to it."""

    noise: LayerNoise
    op: str
    shape: tuple[int, ...]
    float_bytes: int
    work: float

    def to_dict(self) -> dict[str, Any]:
        formats = {
            name: {
                "dtype": f.dtype,
                "noise": finite_or_none(f.noise),
                "sqnr_db": finite_or_none(f.sqnr),
                "bytes": f.bytes,
                "bytes_saved": self.float_bytes - f.bytes,
            }
            for name, f in self.noise.formats.items()
        }
        return {
            "name": self.noise.name,
            "nodes": list(self.noise.nodes),
            "weight": self.noise.weight,
            "op": self.op,
            "shape": list(self.shape),
            "float_bytes": self.float_bytes,
            "work": self.work,
            "formats": formats,
        }


@dataclass(frozen=True, slots=True)
class Uniform:
    """All layers that a recipe narrows, together. expected: dB by the sum of their noises. measured: dB of the whole plan on
    the same samples; None is exact."""

    recipe: str
    layers: int
    bytes: int
    bytes_saved: int
    expected: float
    measured: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "layers": self.layers,
            "bytes": self.bytes,
            "bytes_saved": self.bytes_saved,
            "expected_db": finite_or_none(self.expected),
            "measured_db": self.measured,
        }


@dataclass(frozen=True, slots=True)
class SensitivityResult:
    """Layers by the noise that they bring in the worst format, the loudest first; recipes as a whole; and advice."""

    target: str
    samples: int
    layers: Sequence[Layer]
    recipes: Sequence[Uniform]
    additivity: Additivity | None
    advice: Sequence[Widening]
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        told = self.additivity
        return {
            "target": self.target,
            "samples": self.samples,
            "layers": [layer.to_dict() for layer in self.layers],
            "recipes": [uniform.to_dict() for uniform in self.recipes],
            "additivity": None
            if told is None
            else {
                "rank": finite_or_none(told.rank),
                "apart_db": finite_or_none(told.apart),
                "mixtures": told.mixtures,
                "sentence": told.sentence(),
            },
            "advice": [widening.to_dict() for widening in self.advice],
            "notes": list(self.notes),
        }


def sensitivity(
    model: str | Path | Any,
    data: Any,
    recipes: Sequence[str] = (),
    target: str | Target | None = None,
    *,
    samples: int = NOISE_SAMPLES,
    preprocess: str | None = None,
    importing: ImportOptions = ImportOptions(),  # noqa: B008  (frozen)
    seed: int = 0,
    progress: Progress = SILENT,
) -> SensitivityResult:
    """What noise each layer alone brings to the outputs in the format of each recipe, and which to leave wide.

    Args:
        model, data, target: as of `fewbit.quantize`. Activations are calibrated on up to 128 samples.
        recipes: built-in names or files without rewrites of the graph, which would change the layers; none: those of
            `RECIPES`.
        samples: the first so many are what the noise is measured on.
        seed: of the mixtures on which it is tried whether noises add up.

    Raises:
        InputError: wrong model, data, recipe or target; a model without a layer that any of the recipes narrows.
    """
    chosen = target_for(target or "ort-cpu")
    names = tuple(dict.fromkeys(recipes)) or (RECIPES[-1:] if chosen.integers_only else RECIPES)
    for name in names:
        if rewrites := Recipe.get(name).rewrites:
            raise RecipeError(
                f"recipe {name} rewrites the graph ({', '.join(rewrites)}), and its layers are others then: give one without"
            )
    if samples < 1:
        raise RecipeError(f"the number of samples must be at least 1, given {samples}")
    (opened,) = open_models([model], importing, data, progress)
    hub = load(opened)
    check_float(hub, model)
    source, notes = samples_in_layout(
        data, hub_inputs(hub), limit=EFFORTS["standard"].samples, preprocess=preprocess, purpose="sensitivity"
    )
    feeds = list(islice(source.feeds(), samples))
    job = Calibrator(hub, chosen, 1, progress, EFFORTS["standard"], source)
    found = measure_layers(job, names, feeds, seed)
    if not found.layers:
        raise ModelError(
            f"no layer has a weight that {' or '.join(names)} narrows for {chosen.name}: try another --recipe"
        )
    layers = _described(job.hub, found.layers, feeds[0])
    judge = OutputJudge(job.hub, feeds, job.format, (), job.step)
    totals = [_together(name, layers, judge, job, found.plans[name]) for name in names if _held(layers, name)]
    idle = [name for name in names if not _held(layers, name)]
    if idle:
        notes.append(f"{some(idle)}: {chosen.name} holds no weight of this model so")
    ordered = sorted(layers, key=lambda layer: -max(f.noise for f in layer.noise.formats.values()))
    advice = [] if chosen.integers_only else [a for name in names if (a := _advice(layers, name)) is not None]
    if chosen.integers_only:
        notes.append(NO_FLOAT.format(chosen.name))
    return SensitivityResult(chosen.name, len(feeds), ordered, totals, found.additivity, advice, notes)


def measure_layers(
    job: Calibrator, recipes: Sequence[str], feeds: Sequence[Feed], seed: int, *, mix: bool = True
) -> Measured:
    """For every weight, what it takes and what noise it alone brings, in the format of each recipe.

    A weight has no entry for a recipe whose format the target does not hold it in, or some of whose nodes it leaves in float.

    mix: whether to see if the noises add up.
    """
    hub = job.hub
    readers = _readers(hub)
    formats: dict[str, dict[str, FormatNoise]] = {weight: {} for weight in readers}
    views = score_views(hub)
    plans = {}
    for name in recipes:
        plan = plans[name] = job.plan(Recipe.get(name))
        found = [*perturbations(job.hub, plan), *stored_narrow(job.hub, plan)]
        with job.progress.task(f"noise of the layers in {name}", len(found) * len(feeds)) as advance:
            noise = noise_of_nodes(job.hub, found, feeds, views=views, advance=advance) if found else {}
        for weight, nodes in readers.items():
            site = plan.sites.get(weight)
            known = [noise[node] for node in nodes if node in noise]
            if site is None or site.spec is None or len(known) < len(nodes):
                continue
            formats[weight][name] = FormatNoise(
                stored_bytes(job.hub, plan, weight), str(site.spec.dtype), site.spec.dtype.bits, sum(known)
            )
    layers = [LayerNoise(w, nodes[0], tuple(nodes), formats[w]) for w, nodes in readers.items() if formats[w]]
    return Measured(plans, layers, _additivity(job, plans, layers, feeds, seed) if mix else None)


def _additivity(
    job: Calibrator, plans: Mapping[str, Plan], layers: Sequence[LayerNoise], feeds: Sequence[Feed], seed: int
) -> Additivity | None:
    """Build a few random mixtures, and say how well the sum of the layers' noises foretells theirs.

    Of formats whose activations are float: integers of one layer would need those of its neighbours.
    """
    from scipy.stats import spearmanr

    alone = {name: plan for name, plan in plans.items() if not plan.edges()}
    held = {layer.weight: layer for layer in layers if any(name in alone for name in layer.formats)}
    if len(held) < _FEWEST or all(len(alone.keys() & layer.formats.keys()) < 2 for layer in held.values()):
        return None
    generator = np.random.default_rng(seed)
    judge = OutputJudge(job.hub, feeds, job.format, (), job.step)
    first = next(iter(alone.values()))
    expected, seen = [], []
    with job.progress.task("whether noises add up", _MIXTURES) as advance:
        for share in np.linspace(0.0, 1.0, _MIXTURES):  # from mostly narrow to mostly wide, so that they differ
            chosen = {
                weight: names[min(int(generator.beta(1 + 4 * (1 - share), 1 + 4 * share) * len(names)), len(names) - 1)]
                for weight, layer in held.items()
                if (names := [name for name in layer.formats if name in alone])
            }
            nodes = {node: chosen[weight] for weight in chosen for node in held[weight].nodes}
            mixture = replace(
                first,
                sites={**first.sites, **{weight: plans[name].sites[weight] for weight, name in chosen.items()}},
                nodes={**first.nodes, **{node: plans[name].nodes[node] for node, name in nodes.items()}},
                biases={node: plans[name].biases[node] for node, name in nodes.items() if node in plans[name].biases},
            )
            expected.append(-10 * np.log10(sum(held[w].formats[name].noise for w, name in chosen.items()) + _LEAST))
            seen.append(judge.sqnr(job.format.lower(job.hub, mixture)))
            advance(1)
    rank = float(spearmanr(expected, seen).statistic)
    return Additivity(rank, float(np.median(np.subtract(expected, seen))), _MIXTURES)


def _described(hub: Hub, layers: Sequence[LayerNoise], feed: Feed) -> list[Layer]:
    """The layers with what does not depend on a format."""
    work = node_work(hub, feed)
    nodes = {str(node.name): node for node in hub.nodes()}
    weights = {str(v.name): v.const_value for v in hub.graph.initializers.values()}
    described = []
    for layer in layers:
        tensor = weights[layer.weight]
        assert tensor is not None
        shape = tuple(int(n) for n in tensor.shape.numpy())
        share = sum(work.get(node, 0.0) for node in layer.nodes)
        described.append(Layer(layer, nodes[layer.name].op_type, shape, tensor.nbytes, share))
    return described


def _held(layers: Sequence[Layer], recipe: str) -> list[Layer]:
    return [layer for layer in layers if recipe in layer.noise.formats]


def _together(recipe: str, layers: Sequence[Layer], judge: OutputJudge, job: Calibrator, plan: Plan) -> Uniform:
    held = _held(layers, recipe)
    stored = sum(layer.noise.formats[recipe].bytes for layer in held)
    noise = sum(layer.noise.formats[recipe].noise for layer in held)
    return Uniform(
        recipe,
        len(held),
        stored,
        sum(layer.float_bytes for layer in held) - stored,
        -10 * float(np.log10(max(noise, _LEAST))),
        finite_or_none(judge.sqnr(job.format.lower(job.hub, plan))),
    )


def _advice(layers: Sequence[Layer], recipe: str) -> Widening | None:
    """Which layers of a recipe to keep wider: those of fewer than 8 bits at 8 where that was measured, others in float."""
    held = _held(layers, recipe)
    if not held or max(layer.noise.formats[recipe].bits for layer in held) > _BYTE:
        return None
    few = min(layer.noise.formats[recipe].bits for layer in held) < _BYTE
    wider = "int8-weights" if few and recipe != "int8-weights" and _held(layers, "int8-weights") else None
    other = [layer.noise.formats.get(wider or "") for layer in held]
    return widen(
        recipe,
        wider,
        [layer.noise.name for layer in held],
        [layer.noise.formats[recipe].noise for layer in held],
        [0.0 if wide is None else wide.noise for wide in other],
        [
            (layer.float_bytes if wide is None else wide.bytes) - layer.noise.formats[recipe].bytes
            for layer, wide in zip(held, other, strict=True)
        ],
        [layer.work for layer in held],
    )


def _readers(hub: Hub) -> dict[str, list[str]]:
    """Weight → the nodes that read it as their weight, in the order of the graph."""
    readers: dict[str, list[str]] = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is not None:
            readers.setdefault(str(weight.value.name), []).append(str(node.name))
    return readers
