"""The simulation of integer kernels, against LiteRT's own, integer by integer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("ai_edge_litert")

from fewbit.data import open_source
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.formats import FORMATS, Details
from fewbit.formats.litert.write import write_litert
from fewbit.formats.onnx.exact import with_integer_arithmetic
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.runtimes.table import open_model
from tests.formats.litert.write.running import run_file, run_model
from tests.models import Builder

SIZES = (1, 8, 12, 12)


def conv(b: Builder) -> None:
    x = b.node("Conv", ["x", b.weight(16, 8, 3, 3), b.weight(16)], pads=[1, 1, 1, 1], strides=[2, 2])
    b.node("Conv", [b.node("Relu", [x]), b.weight(4, 16, 1, 1)], "y")


def depthwise(b: Builder) -> None:
    x = b.node("Clip", [b.node("Conv", ["x", b.weight(8, 1, 3, 3)], group=8), b.constant(np.float32(0))])
    b.node("Conv", [x, b.weight(4, 8, 1, 1)], "y")


def residual(b: Builder) -> None:
    first = b.node("Conv", ["x", b.weight(8, 8, 1, 1), b.weight(8)])
    second = b.node("Conv", [first, b.weight(8, 8, 1, 1, scale=0.02), b.weight(8)])
    b.node("Conv", [b.node("Add", [first, second]), b.weight(4, 8, 1, 1)], "y")


def gated(b: Builder) -> None:
    x = b.node("Conv", ["x", b.weight(8, 8, 1, 1), b.weight(8)])
    b.node("Conv", [b.node("Mul", [x, b.node("Sigmoid", [x])]), b.weight(4, 8, 1, 1)], "y")


def joined(b: Builder) -> None:
    """Inputs of a concatenation that have other readers, and so scales of their own."""
    one, two = (b.node("Conv", ["x", b.weight(8, 8, 1, 1, scale=s), b.weight(8)]) for s in (0.3, 0.05))
    x = b.node("Concat", [one, two, b.node("Add", [one, two])], axis=1)
    b.node("Conv", [x, b.weight(4, 24, 1, 1)], "y")


def pooled(b: Builder) -> None:
    x = b.node("Conv", ["x", b.weight(8, 8, 1, 1), b.weight(8)])
    x = b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.node("GlobalAveragePool", [b.node("Conv", [x, b.weight(8, 8, 1, 1)])])
    b.node("Gemm", [b.node("Flatten", [x]), b.weight(8, 5), b.weight(5)], "y")


@pytest.mark.parametrize("network", [conv, depthwise, residual, gated, joined, pooled])
def test_kernels_give_the_integers_that_are_simulated(tmp_path: Path, network: Callable[[Builder], None]) -> None:
    """All of them, on 20 samples: numbers of the outputs that differ by less than a step are the same integers."""
    b = Builder(3)
    network(b)
    hub = load(b.save(tmp_path / "m.onnx", {"x": SIZES}, ["y"]))
    samples = np.random.default_rng(0).standard_normal((20, *SIZES)).astype(np.float32)
    source = open_source([{"x": x} for x in samples], inputs=hub_inputs(hub))
    job = Calibrator(hub, target_for("litert-cpu"), 1, SILENT, EFFORTS["fast"], source)
    plan = job.plan(Recipe.get("int8"))
    assert {"integer"} <= set(plan.forms()) <= {"integer", "passthrough", "absorbed"}
    path, format = tmp_path / "m.tflite", FORMATS["litert"]
    format.write(job.lower(plan), path, Details())
    simulated, real = format.session(job.lower(plan)), open_model(path)
    step = float(plan.sites["y"].params.scale)  # type: ignore[union-attr]
    for x in samples:
        (meant,), (given,) = simulated.run({"x": x}), real.run({"x": x})
        assert np.ptp(meant) > 20 * step
        np.testing.assert_array_equal(np.rint(given / step), np.rint(meant / step))


def test_floats_are_multiplied_by_the_reciprocal_of_a_scale_and_rounded_to_even() -> None:
    """Numbers in the middle between two integers, as floats hold it; divided by the scale, thousands come out otherwise."""
    random = np.random.default_rng(0)
    scale, middles = np.float32(0.0371), (random.integers(-100, 100, 20_000) + 0.5).astype(np.float32)
    x = (middles * scale).reshape(1, -1)
    b = Builder()
    ends = [b.constant(scale), b.constant(np.int8(7))]
    b.node("DequantizeLinear", [b.node("QuantizeLinear", ["x", *ends]), *ends], "y")
    hub = Hub(ir.from_proto(b.proto({"x": x.shape}, ["y"])))
    (meant,), (divided,) = (run_model(h, {"x": x}) for h in (Hub(with_integer_arithmetic(hub.model)), hub))
    given = run_file(write_litert(hub), {"x": x}, "AUTO")["y"]
    np.testing.assert_array_equal(given, meant)
    assert (given != divided).sum() > 1000
