"""How well the table of kernel times foretells mixtures of float and integers: predicted and real speed of several.

    python benchmarks/latency_mixtures.py MODEL DATA [--target ort-cpu] [--count 10] [--rounds 15]

Mixtures are the uniform ones, those that the search finds, and random ones: each part in float with a probability that goes
from 0 to 1, in runs of parts, as mixtures of single layers would be borders and nothing else. Real speeds are ratios to the
float model, interleaved in one run, on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from fewbit.flow.auto.costs import Pricer
from fewbit.flow.auto.setup import Setup
from fewbit.flow.auto.speed import FLOAT, INT8, mixture_recipe
from fewbit.flow.common import hub_inputs
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.opening import load
from fewbit.flow.quantize import quantize
from fewbit.flow.verification import details_for
from fewbit.measure.latency import interleaved
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.runtimes.table import open_model

_RUN = 4  # parts that get one format together, on average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--target", default="ort-cpu")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    setup = Setup(options.model, options.data, None, None, "cosine", None, options.target, options.seed, 0.95, 8)
    hub = load(setup.model)
    source, _ = samples_in_layout(setup.data, hub_inputs(hub), limit=4, preprocess=None, purpose="calibration")
    pricer = Pricer(hub, setup, source, SILENT)
    # No noise: every layer may be int8, and none need be.
    noise = {str(node.name): {INT8: 0.0} for node in hub.nodes()}
    found = pricer.found(noise)
    generator = np.random.default_rng(options.seed)
    formats: dict[str, dict[str, str]] = {INT8: {}}
    formats |= {f"found {i}": dict(m["formats"]) for i, m in enumerate(found["mixtures"]) if m["counts"][INT8]}
    for index, share in enumerate(np.linspace(0.1, 0.9, options.count)):
        chosen, state = {}, generator.random() < share
        for part in pricer.parts:
            if generator.random() < 1 / _RUN:
                state = generator.random() < share
            if state:
                chosen |= dict.fromkeys(part.nodes, FLOAT)
        if not all(name in chosen for part in pricer.parts for name in part.heavy):  # that is float as a whole
            formats[f"random {index}"] = chosen
    seen: list[list[str]] = []
    predicted, runs = {FLOAT: found["uniform"][FLOAT]}, {}
    with tempfile.TemporaryDirectory() as folder:
        files = {FLOAT: Path(folder) / f"float{pricer.format.suffix}"}
        float_plan = Plan(hub.fingerprint(), setup.target, FLOAT, {}, {})
        details = details_for(pricer.format, hub, float_plan, source, setup.model, keep_names=False)
        pricer.format.write(hub.clone().model, files[FLOAT], details)
        for index, (name, chosen) in enumerate(formats.items()):
            recipe = Recipe.get(mixture_recipe("mixed", chosen))
            kernels = pricer.price(pricer.job.plan(recipe))
            made = sorted(kernel.digest for kernel, _ in kernels)
            if made in seen:  # what other formats leave the runtime with the same kernels
                continue
            seen.append(made)
            predicted[name] = sum(t for _, t in kernels)
            files[name] = Path(folder) / f"{index}{pricer.format.suffix}"
            quantize(
                setup.model,
                setup.data,
                recipe,
                setup.target,
                files[name],
                limit=4,
                effort="fast",
                verify=False,
            )
        for name, path in files.items():
            session = open_model(path, threads=1)
            runs[name] = session.timed(dict(zip(session.inputs, pricer.feed.values(), strict=True)))
        real = {x.name: x for x in interleaved(runs, rounds=options.rounds)}
    table = [
        {"mixture": n, "predicted": predicted[FLOAT] / predicted[n], "real": real[n].ratio, "ms": real[n].milliseconds}
        for n in predicted
    ]
    for row in table:
        print(f"{row['mixture']:12} predicted ×{row['predicted']:.2f}  real ×{row['real']:.2f}", file=sys.stderr)
    rank = float(spearmanr([r["predicted"] for r in table], [r["real"] for r in table]).statistic)
    print(json.dumps({"model": options.model, "target": options.target, "rank": rank, "mixtures": table}))


if __name__ == "__main__":
    main()
