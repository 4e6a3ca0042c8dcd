"""How much noise each layer brings to the outputs in each format, without labels; and whether these noises add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.errors import ModelError, RecipeError
from fewbit.flow.additivity import Additivity, additivity
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, some, target_for
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.layer_formats import LEAST_NOISE, NOISE_SAMPLES, LayerNoise, measure_layers
from fewbit.flow.opening import ImportOptions, load, open_models
from fewbit.flow.outputs import OutputJudge
from fewbit.flow.quantize import check_float
from fewbit.flow.repair import NO_FLOAT, node_work
from fewbit.graph.hub import Hub
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT, Progress
from fewbit.runtimes.session import Feed
from fewbit.search.widen import Widening, widen
from fewbit.targets import Target

RECIPES = ("fp16", "int8-weights", "int4-weights", "int8")
"""What is tried where no recipe is asked for; where a target computes in integers alone, the last."""

_BYTE = 8  # bits from which on the next wider format is float


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
                "rank_with_pairs": None if told.paired is None else finite_or_none(told.paired),
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
    added = additivity(job, found, feeds, seed)
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
    return SensitivityResult(chosen.name, len(feeds), ordered, totals, added, advice, notes)


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
        -10 * float(np.log10(max(noise, LEAST_NOISE))),
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
