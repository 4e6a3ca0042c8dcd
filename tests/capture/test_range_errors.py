"""Errors at the readers of an edge, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewbit.capture.range_errors import Question, Reader, range_errors
from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.graph.load import load
from fewbit.spec import UINT8, QSpec
from tests.models import Builder

SPEC = QSpec(UINT8, symmetric=False)


def test_means_and_powers_are_those_of_each_reader(tmp_path: Path) -> None:
    b = Builder()
    weight, bias = (b.random.standard_normal(s).astype(np.float32) for s in ((6, 5), (5,)))
    x = b.node("Relu", ["x"])
    b.node("Gemm", [b.node("Flatten", [x]), b.constant(weight, "w"), b.constant(bias)], "y")
    b.node("Sigmoid", [x], "z")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 6)}, ["y", "z"])
    hub = load(model)
    by_op = {node.op_type: node for node in hub.nodes()}
    edge = str(by_op["Relu"].outputs[0].name)
    rounded = np.round(weight, 1)
    candidates = {"wide": params_from_range(0.0, 4.0, SPEC), "narrow": params_from_range(0.0, 1.0, SPEC)}
    readers = [
        Reader(str(by_op["Gemm"].name), (1, rounded), by_op["Gemm"].outputs[0].shape and 1),
        Reader(str(by_op["Sigmoid"].name)),
    ]
    between = [str(node.name) for node in hub.nodes() if node.op_type == "Flatten"]
    feeds = [{"x": b.random.standard_normal((7, 6)).astype(np.float32)} for _ in range(3)]
    gemm, sigmoid = range_errors(hub, [Question(edge, candidates, None, readers, between)], feeds)[edge]
    assert gemm.mean.shape == (3, 2, 5) and gemm.square.shape == (3, 2) and gemm.signal.shape == (3,)
    for s, feed in enumerate(feeds):
        real = np.maximum(feed["x"], 0.0)
        assert np.isclose(gemm.signal[s], ((real @ weight + bias) ** 2).mean(), rtol=1e-5)
        for k, params in enumerate(candidates.values()):
            given = fake_quantize(real, params)
            error = given @ rounded - real @ weight
            assert np.allclose(gemm.mean[s, k], error.mean(0), rtol=1e-4, atol=1e-5)
            assert np.isclose(gemm.square[s, k], (error**2).mean(), rtol=1e-4)
            error = 1 / (1 + np.exp(-given)) - 1 / (1 + np.exp(-real))
            assert np.isclose(sigmoid.square[s, k], (error**2).mean(), rtol=1e-3)
    assert not sigmoid.mean.any()


def test_no_questions_no_pass(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 6)}, ["y"]))
    assert range_errors(hub, [], iter(())) == {}
