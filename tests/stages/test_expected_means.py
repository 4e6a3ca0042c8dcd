"""Means that batch normalizations tell, against those that samples show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fewbit
from fewbit.capture.collect import collect
from fewbit.graph.load import load
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import compare_outputs
from fewbit.stages.expected_means import expected_means
from tests.models import Builder

SHAPE = ("N", 8, 16, 16)


def feeds(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [{"x": random.standard_normal((1, *SHAPE[1:])).astype(np.float32)} for _ in range(count)]


def trained(path: Path) -> Path:
    """Conv → BatchNormalization → Relu, a residual sum, and a head; the statistics are those of normal inputs."""
    b = Builder()

    def layer(x: str, outputs: int, inputs: int) -> str:
        weight = b.random.standard_normal((outputs, inputs, 1, 1)).astype(np.float32)
        x = b.node("Conv", [x, b.constant(weight)])
        probe = open_session(b.proto({"x": SHAPE}, [x]).SerializeToString())
        made = np.concatenate([probe.run(feed)[0] for feed in feeds(8)])
        gain, shift = (b.random.uniform(low, 1.0, outputs).astype(np.float32) for low in (0.2, -1.0))
        mean, variance = made.mean((0, 2, 3)), made.var((0, 2, 3))
        return b.node("BatchNormalization", [x, *map(b.constant, (-gain, shift, mean, variance))])

    first = b.node("Relu", [layer("x", 32, 8)])
    second = b.node("Clip", [layer(first, 32, 32), b.constant(np.float32(0.0)), b.constant(np.float32(0.5))])
    total = b.node("Relu", [b.node("Add", [layer(second, 32, 32), first])])
    pooled = b.node("Flatten", [b.node("GlobalAveragePool", [b.node("Conv", [total, b.weight(32, 32, 1, 1)])])])
    b.node("Gemm", [pooled, b.weight(32, 16), b.weight(16)], "y")
    return b.save(path, {"x": SHAPE}, ["y"])


def test_expected_means_are_close_to_measured_ones(tmp_path: Path) -> None:
    hub = load(trained(tmp_path / "m.onnx"))
    expected = expected_means(hub)
    readers = [node for node in hub.nodes() if node.op_type == "Conv" and node.inputs[0] not in hub.graph.inputs]
    names = {str(node.inputs[0].name): 1 for node in readers if node.inputs[0] is not None}
    assert len(names) == 3 and set(names) <= set(expected)
    for name, seen in collect(hub, names, feeds(8, 1)).stats.items():
        error = np.abs(expected[name] - seen.channel_mean)
        assert error.mean() < 0.03 and error.max() < 0.2, name  # the operands of the sum are not quite independent


def test_batch_normalization_stands_in_for_samples(tmp_path: Path) -> None:
    model = trained(tmp_path / "m.onnx")
    sqnr = []
    for correction in (False, True):
        weight = {"dtype": "int3", "bias_correction": correction}
        recipe = {"rules": [{"compute": "storage", "weight": weight}, {"match": {"op": "Gemm"}, "compute": "float"}]}
        made = fewbit.quantize(model, recipe=recipe, verify=False)
        assert bool(made.plan.biases) == correction
        sqnr.append(compare_outputs(open_session(model), open_session(made.model), feeds(8, 1))[0].sqnr)
    assert sqnr[1] > sqnr[0] + 6.0
