"""int8 calibrated on real, on synthetic and on random samples; prints a table (docs/synthetic.md).

The networks of the collection have their batch normalizations folded. They are put back behind every convolution, with the
means and deviations that its channels have on calibration samples, which is what training would have left there; the network
computes the same as before.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import load_zoo, zoo_folder
from onnx import helper, numpy_helper

import fewbit
from fewbit.measure.compare import OutputComparison
from fewbit.runtimes.onnxruntime import OrtSession, open_session

CASES = ("mlperf_kws_dscnn", "mlperf_ic_resnet8", "cifar10_resnet20", "imagenet_efficientnet_lite0")
EPSILON = 1e-5


def remembering(model: onnx.ModelProto, feeds: Iterable[dict[str, Any]]) -> onnx.ModelProto:
    """The model with a batch normalization behind every convolution that changes nothing for it."""
    names = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    del tapped.graph.output[:]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session, count = open_session(tapped.SerializeToString()), 0
    sums = [(np.zeros(1), np.zeros(1)) for _ in names]
    for feed in feeds:
        count += 1
        for i, array in enumerate(session.run(feed)):
            flat = np.moveaxis(array.astype(np.float64), 1, 0).reshape(array.shape[1], -1)
            sums[i] = (sums[i][0] + flat.mean(1), sums[i][1] + np.square(flat).mean(1))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Conv":
            name = node.output[0]
            mean, square = (part / count for part in sums[names.index(name)])
            variance = np.maximum(square - mean**2, 0.0)
            values = {"gain": np.sqrt(variance + EPSILON), "shift": mean, "mean": mean, "variance": variance}
            model.graph.initializer.extend(
                numpy_helper.from_array(value.astype(np.float32), f"{name}_{key}") for key, value in values.items()
            )
            node.output[0] = f"{name}_raw"
            inputs = [node.output[0], *(f"{name}_{key}" for key in values)]
            nodes.append(helper.make_node("BatchNormalization", inputs, [name], epsilon=EPSILON))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def scored(case: Any, real: OrtSession, model: Any, limit: int) -> tuple[float, float]:
    """(metric, dB of the first output against float) on evaluation samples."""
    session, comparison, outputs = open_session(model), OutputComparison("first"), []
    for feed in case.evaluation(limit):
        outputs.append(session.run(feed))
        comparison.update(real.run(feed)[0], outputs[-1][0])
    return case.score(outputs, range(len(outputs))), comparison.sqnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--limit", type=int, default=500, help="evaluation samples")
    options = parser.parse_args()
    zoo = load_zoo(zoo_folder(options.zoo))
    for name in options.cases:
        case = zoo.load(name)
        feeds = list(case.calibration(128))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(remembering(onnx.load(case.model), feeds), path)
            real = open_session(case.model)
            print(name, f"float {scored(case, real, case.model, options.limit)[0]:.4f}", flush=True)
            (key,) = feeds[0]
            seen = np.concatenate([feed[key] for feed in feeds])
            random = np.random.default_rng(0)
            shape = (64, *seen.shape[1:])
            ways = {
                "real": feeds,
                "synthetic": "synthetic",
                "uniform, range of the real ones": random.uniform(seen.min(), seen.max(), shape).astype(np.float32),
                "normal, mean 0 and deviation 1": random.standard_normal(shape).astype(np.float32),
            }
            for way, data in ways.items():
                started = time.process_time()
                result = fewbit.quantize(path, data, min_sqnr=0, verify=False)
                seconds = time.process_time() - started
                metric, decibel = scored(case, real, result.model, options.limit)
                samples = result.plan.calibration["samples"]
                print(f"  {way}: {metric:.4f}, {decibel:.1f} dB, {samples} samples, {seconds:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
