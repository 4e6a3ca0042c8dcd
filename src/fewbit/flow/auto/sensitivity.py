"""How much noise each layer brings to the outputs in each format, without labels; and whether these noises add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.capture.noise import Perturbation, noise_of_nodes
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.opening import load
from fewbit.flow.outputs import OutputJudge, score_views
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_bias, effective_weight
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import Progress
from fewbit.runtimes.session import Feed
from fewbit.stages.repair import perturbations

_MIXTURES = 6
_FEWEST = 3  # layers, of which mixtures can be made that differ
_ADDITIVE = 0.8
_SAMPLES = 8  # the order of layers by their noise is the same with 2 to 32 of them (docs/auto.md)


def sensitivity(
    setup: Setup, splits: Splits, recipes: Sequence[str], mix: bool, folder: Path, progress: Progress
) -> dict[str, Any]:
    """For every weight, what it takes and what noise it alone brings, in the format of each recipe.

    Args:
        mix: whether to see if the noises add up, which takes recipes that leave edges alone: random mixtures of others are
            plans that nothing would make.

    Returns:
        `layers`: name of the weight's first node, all nodes that read it, and per recipe `bytes` and `noise` (None where the
        target does not hold it so).
    """
    hub = load(setup.model)
    source, _ = samples_in_layout(
        splits.selected(setup, "calibration"),
        hub_inputs(hub),
        limit=None,
        preprocess=setup.preprocess,
        purpose="calibration",
    )
    feeds = list(islice(source.feeds(), _SAMPLES))
    readers = _readers(hub)
    layers: dict[str, dict[str, Any]] = {
        weight: {"name": nodes[0], "nodes": nodes, "formats": {}} for weight, nodes in readers.items()
    }
    views = score_views(hub)
    plans = {}
    job = Calibrator(hub, target_for(setup.target), 1, progress, EFFORTS["standard"], source)
    for name in recipes:
        plan = plans[name] = job.plan(Recipe.get(name))
        found = [*perturbations(job.hub, plan), *stored_narrow(job.hub, plan)]
        with progress.task(f"noise of the layers in {name}", len(found) * len(feeds)) as advance:
            noise = noise_of_nodes(job.hub, found, feeds, views=views, advance=advance) if found else {}
        for weight, nodes in readers.items():
            site = plan.sites.get(weight)
            known = [noise[node] for node in nodes if node in noise]
            if site is None or site.spec is None or len(known) < len(nodes):
                continue
            layers[weight]["formats"][name] = {"bytes": stored_bytes(job.hub, plan, weight), "noise": sum(known)}
    held = {weight: layer for weight, layer in layers.items() if layer["formats"]}
    notes = _additivity(job, plans, held, feeds, setup.seed) if mix else []
    return {"layers": [*held.values()], "notes": notes}


def _additivity(
    job: Calibrator, plans: Mapping[str, Plan], layers: Mapping[str, Any], feeds: Sequence[Feed], seed: int
) -> list[str]:
    """Build a few random mixtures, and say how well the sum of the layers' noises foretells theirs."""
    from scipy.stats import spearmanr

    if len(layers) < _FEWEST:
        return []
    generator = np.random.default_rng(seed)
    judge = OutputJudge(job.hub, feeds, job.format, (), job.step)
    first = next(iter(plans.values()))
    expected, seen = [], []
    for share in np.linspace(0.0, 1.0, _MIXTURES):  # from mostly narrow to mostly wide, so that they differ
        chosen = {
            weight: names[min(int(generator.beta(1 + 4 * (1 - share), 1 + 4 * share) * len(names)), len(names) - 1)]
            for weight, layer in layers.items()
            if (names := [*layer["formats"]])
        }
        nodes = {node: chosen[weight] for weight in chosen for node in layers[weight]["nodes"]}
        mixture = replace(
            first,
            sites={**first.sites, **{weight: plans[name].sites[weight] for weight, name in chosen.items()}},
            nodes={**first.nodes, **{node: plans[name].nodes[node] for node, name in nodes.items()}},
            biases={node: plans[name].biases[node] for node, name in nodes.items() if node in plans[name].biases},
        )
        expected.append(-10 * np.log10(sum(layers[w]["formats"][name]["noise"] for w, name in chosen.items()) + 1e-12))
        seen.append(judge.sqnr(job.format.lower(job.hub, mixture)))
    rank = float(spearmanr(expected, seen).statistic)
    apart = float(np.median(np.subtract(expected, seen)))
    told = (
        f"the noises of layers foretell that of mixtures: rank correlation {rank:.2f} on {_MIXTURES} random ones, "
        f"{apart:+.1f} dB"
    )
    return [told] if rank >= _ADDITIVE else [f"{told}; below {_ADDITIVE:g}, the order of mixtures is not to be trusted"]


def stored_narrow(hub: Hub, plan: Plan) -> list[Perturbation]:
    """What narrow weights do at every node that computes in float."""
    found = []
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is None or plan.nodes[str(node.name)].form not in ("storage", "weight_only") or len(node.outputs) > 1:
            continue
        site = plan.sites[str(weight.value.name)]
        if site.spec is None:
            continue
        found.append(
            Perturbation(
                str(node.name),
                None,
                None,
                weight.index,
                _narrow(hub, plan, node, weight.value),
                effective_bias(plan, node),
                None,
            )
        )
    return found


def stored_bytes(hub: Hub, plan: Plan, weight: str) -> int:
    """What a weight takes in a file: its packed elements, scales and zero points, and a codebook's table."""
    site = plan.sites[weight]
    assert site.spec is not None
    value = next(v.const_value for v in hub.graph.initializers.values() if v.name == weight)
    assert value is not None
    count = value.size
    total = -(-count * site.spec.dtype.bits // 8)
    if site.params is not None:
        zeros = 0 if site.spec.symmetric else site.params.zero_point.size
        table = 0 if site.params.table is None else site.params.table.nbytes
        total += site.params.scale.nbytes + zeros + table
    return total


def _narrow(hub: Hub, plan: Plan, node: ir.Node, value: ir.Value) -> Any:
    site = plan.sites[str(value.name)]
    assert site.spec is not None
    if site.params is None:  # float16 and the like
        return np.asarray(hub.constant(value), np.float32).astype(site.spec.dtype.storage).astype(np.float32)
    return effective_weight(hub, plan, node, value)


def _readers(hub: Hub) -> dict[str, list[str]]:
    """Weight → the nodes that read it as their weight, in the order of the graph."""
    readers: dict[str, list[str]] = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is not None:
            readers.setdefault(str(weight.value.name), []).append(str(node.name))
    return readers
