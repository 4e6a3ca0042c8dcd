"""How sensitive each layer is, as a piece of work of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fewbit.flow.additivity import PairNoise, additivity
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.work import calibration_samples, graph_of
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import target_for
from fewbit.flow.layer_formats import NOISE_SAMPLES, measure_layers
from fewbit.progress import Progress


def sensitivity(
    setup: Setup, splits: Splits, recipes: Sequence[str], mix: bool, folder: Path, progress: Progress
) -> dict[str, Any]:
    """For every weight, what it takes and what noise it alone brings, in the format of each recipe.

    Args:
        mix: whether to see if the noises add up, which takes recipes that leave edges alone: random mixtures of others are
            plans that nothing would make.

    Returns:
        `layers`: name of the weight's first node, all nodes that read it, and per recipe `bytes` and `noise` (None where the
        target does not hold it so). `pairs`: `first` and `second` (layer, recipe), and the `noise` that they bring beyond the
        sum of both, where the layers' noises alone foretell poorly what mixtures bring.
    """
    hub = graph_of(setup)
    source = calibration_samples(setup, splits, hub)
    feeds = list(islice(source.feeds(), NOISE_SAMPLES))
    job = Calibrator(hub, target_for(setup.target), 1, progress, EFFORTS["standard"], source)
    found = measure_layers(job, recipes, feeds, setup.seed, together=mix)
    added = additivity(job, found, feeds, setup.seed) if mix else None
    names = {layer.weight: layer.name for layer in found.layers}
    layers = [
        {
            "name": layer.name,
            "nodes": list(layer.nodes),
            "formats": {name: {"bytes": f.bytes, "noise": f.noise} for name, f in layer.formats.items()},
        }
        for layer in found.layers
    ]
    return {
        "layers": layers,
        "pairs": [] if added is None else [_told(pair, names) for pair in added.pairs],
        "notes": [] if added is None else [added.sentence()],
    }


def _told(pair: PairNoise, names: Mapping[str, str]) -> dict[str, Any]:
    (first, one), (second, other) = pair.first, pair.second
    return {"first": [names[first], one], "second": [names[second], other], "noise": pair.noise}
