"""What each layer of a model takes in the format of each recipe, and what noise it alone brings to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fewbit.capture.interactions import Interactions
from fewbit.capture.noise import Array, noise_of_nodes
from fewbit.flow.calibrate import Calibrator
from fewbit.flow.narrow import stored_bytes, stored_narrow
from fewbit.flow.outputs import score_views
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.runtimes.session import Feed
from fewbit.stages.repair import perturbations

NOISE_SAMPLES = 8
"""On ResNet-20, DS-CNN and MiniLM the noise of every layer with 8 samples is within 2 dB of that with 32, and ranks them
alike (0.91 to 0.99); with 2 samples the rank correlation falls to 0.65."""

LEAST_NOISE = 1e-12
"""Of the signal: what float32 itself brings."""


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
        return -10 * float(np.log10(max(self.noise, LEAST_NOISE)))


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """A weight, the nodes that read it (the first gives the layer its name), and recipe → what its format does."""

    weight: str
    name: str
    nodes: tuple[str, ...]
    formats: Mapping[str, FormatNoise]


@dataclass(frozen=True, slots=True)
class Measured:
    """Plans by recipe, the layers that some recipe narrows, and how their errors go together, by (weight, recipe), where
    that was asked for."""

    plans: Mapping[str, Plan]
    layers: Sequence[LayerNoise]
    interactions: Interactions | None


def measure_layers(
    job: Calibrator, recipes: Sequence[str], feeds: Sequence[Feed], seed: int, *, together: bool = True
) -> Measured:
    """For every weight, what it takes and what noise it alone brings, in the format of each recipe.

    A weight has no entry for a recipe whose format the target does not hold it in, or some of whose nodes it leaves in float.

    seed: of the sketches of errors. together: whether these are kept.
    """
    hub = job.hub
    readers = _readers(hub)
    weights = {node: weight for weight, nodes in readers.items() for node in nodes}
    formats: dict[str, dict[str, FormatNoise]] = {weight: {} for weight in readers}
    interactions = Interactions(seed) if together else None

    def keep(recipe: str, node: str, sample: int, output: int, real: Array, error: Array) -> None:
        if interactions is not None:
            interactions.add((weights[node], recipe), sample, output, real, error)

    views = score_views(hub)
    plans = {}
    for name in recipes:
        plan = plans[name] = job.plan(Recipe.get(name))
        found = [*perturbations(job.hub, plan), *stored_narrow(job.hub, plan)]
        with job.progress.task(f"noise of the layers in {name}", len(found) * len(feeds)) as advance:
            heard = partial(keep, name)
            noise = noise_of_nodes(job.hub, found, feeds, views=views, advance=advance, heard=heard) if found else {}
        for weight, nodes in readers.items():
            site = plan.sites.get(weight)
            known = [noise[node] for node in nodes if node in noise]
            if site is None or site.spec is None or len(known) < len(nodes):
                continue
            formats[weight][name] = FormatNoise(
                stored_bytes(job.hub, plan, weight), str(site.spec.dtype), site.spec.dtype.bits, sum(known)
            )
    layers = [LayerNoise(w, nodes[0], tuple(nodes), formats[w]) for w, nodes in readers.items() if formats[w]]
    return Measured(plans, layers, interactions)


def _readers(hub: Hub) -> dict[str, list[str]]:
    """Weight → the nodes that read it as their weight, in the order of the graph."""
    readers: dict[str, list[str]] = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is not None:
            readers.setdefault(str(weight.value.name), []).append(str(node.name))
    return readers
