"""How much noise each layer of a plan alone brings to the outputs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.capture.noise import noise_of_nodes
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.work import calibration_samples, graph_of
from fewbit.flow.narrow import stored_narrow
from fewbit.flow.outputs import score_views
from fewbit.measure.compare import finite_or_none
from fewbit.plan.plan import Plan
from fewbit.plan.rewrites import rewritten
from fewbit.progress import Progress
from fewbit.stages.repair import perturbations

_SAMPLES = 4  # for a figure to look at; the search itself uses more


def layer_noise(setup: Setup, splits: Splits, plan: str, folder: Path, progress: Progress) -> dict[str, Any]:
    """Node → SQNR in dB at the output that suffers most, if this node alone were quantized; None where that changes nothing.

    plan: its file.
    """
    loaded = Plan.load(plan)
    original = graph_of(setup)
    hub = rewritten(original, loaded.rewrites)
    feeds = list(islice(calibration_samples(setup, splits, original).feeds(), _SAMPLES))
    found = [*perturbations(hub, loaded), *stored_narrow(hub, loaded)]
    if not found:
        return {"sqnr_db": {}}
    with progress.task("noise of the layers", len(found) * len(feeds)) as advance:
        noise = noise_of_nodes(hub, found, feeds, views=score_views(hub), advance=advance)
    return {
        "sqnr_db": {
            name: finite_or_none(float(-10 * np.log10(ratio))) if ratio > 0 else None for name, ratio in noise.items()
        }
    }
