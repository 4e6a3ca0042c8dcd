"""How long a training step with simulated quantization takes against a float step of the same graph.

    python benchmarks/train_step.py MODEL.onnx --data SRC [--recipe w4a8] [--batch 32] [--rounds 5]

Steps are taken in turns in one process on one thread; CPU seconds, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from statistics import median

import numpy as np
import torch

from fewbit.data import open_source
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.graph.load import load
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.torchgraph.module import to_torch
from fewbit.torchgraph.quantized import QuantizedGraph
from fewbit.torchgraph.samples import stackable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="w4a8")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    hub = load(args.model)
    source = open_source(args.data, inputs=hub_inputs(hub), limit=max(args.batch, 32))
    job = Calibrator(hub, target_for("ort-cpu"), 1, SILENT, EFFORTS["fast"], source)
    quantized = QuantizedGraph(hub, job.plan(Recipe.get(args.recipe)))
    plain = to_torch(hub)
    feeds = list(islice(source.feeds(), args.batch if stackable(hub) else 1))
    inputs = [torch.from_numpy(np.concatenate([feed[name] for feed in feeds])) for name in plain.input_names]

    def step(module: torch.nn.Module) -> float:
        started = time.process_time()
        module.zero_grad()
        sum(y.square().mean() for y in module(*inputs)).backward()
        return time.process_time() - started

    for module in (plain, quantized):
        step(module)
    seconds = [(step(plain), step(quantized)) for _ in range(args.rounds)]
    print(
        json.dumps(
            {
                "float_s": median(a for a, _ in seconds),
                "quantized_s": median(b for _, b in seconds),
                "ratio": median(b / a for a, b in seconds),
            }
        )
    )


if __name__ == "__main__":
    main()
