"""The simulated model is the exported one, and what goes in as a plan comes out as it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.data import open_source
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.formats.onnx.lower import lower
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.runtimes.onnxruntime import open_session
from tests.models import Builder, attention, conv_relu_conv

torch = pytest.importorskip("torch")

from fewbit.torchgraph.quantized import QuantizedGraph  # noqa: E402

RECIPES = ("int8", "w4a8", "w4a4", "w2a8", "int8-weights", "int4-weights", "a16w8")


def residual(path: Path) -> Path:
    """Convolutions with a residual connection, a depthwise one, a constant operand, a Concat, pooling and a dense layer."""
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)], pads=[1, 1, 1, 1])])
    y = b.node("Conv", [x, b.weight(8, 1, 3, 3), b.weight(8)], pads=[1, 1, 1, 1], group=8)
    y = b.node("Relu", [b.node("Add", [b.node("Conv", [y, b.weight(8, 8, 1, 1)]), x])])
    y = b.node("Mul", [y, b.constant(np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1, 1))])
    y = b.node("Concat", [b.node("Conv", [y, b.weight(4, 8, 1, 1), b.weight(4)]), y], axis=1)
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y])])
    b.node("Gemm", [y, b.weight(5, 12), b.weight(5)], "y", transB=1)
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def tied(path: Path) -> Path:
    """Two dense layers that read one weight along the same axes."""
    b = Builder()
    w = b.weight(32, 32)
    hidden = b.node("Relu", [b.node("Add", [b.node("MatMul", ["x", w]), b.weight(32)])])
    b.node("Add", [b.node("MatMul", [hidden, w]), b.weight(32)], "y")
    return b.save(path, {"x": ("N", 4, 32)}, ["y"])


def made(path: Path, recipe: str, shape: tuple[int, ...]) -> tuple[Hub, Plan, np.ndarray[Any, Any]]:
    hub = load(path)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    source = open_source({"x": x}, inputs=hub_inputs(hub))
    job = Calibrator(hub, target_for("ort-cpu-vnni"), 1, SILENT, EFFORTS["standard"], source)
    return hub, job.plan(Recipe.get(recipe)), x


MODELS = {
    "convs": (conv_relu_conv, (32, 3, 8, 8)),
    "residual": (residual, (32, 3, 8, 8)),
    "tied": (tied, (32, 4, 32)),
    "attention": (attention, (32, 16, 32)),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", MODELS)
def test_simulated_as_it_runs_and_back_to_the_same_bytes(tmp_path: Path, model: str, recipe: str) -> None:
    build, shape = MODELS[model]
    hub, plan, x = made(build(tmp_path / "m.onnx"), recipe, shape)
    graph = QuantizedGraph(hub, plan)
    exported = lower(hub, plan)
    # as the graph is written: integer kernels of products and means round in their own way (35 dB on these small models)
    (wanted,) = open_session(exported, optimize=False).run({"x": x})
    with torch.no_grad():
        given = graph(torch.from_numpy(x))[0].numpy()
    error = np.square(given - wanted).sum() / np.square(wanted).sum()
    assert error < 1e-4, f"{-10 * np.log10(error):.1f} dB"  # 40 dB: a tie that falls otherwise moves one integer
    again = lower(hub, graph.plan())
    assert ir.to_proto(again).SerializeToString() == ir.to_proto(exported).SerializeToString()


def test_a_trained_plan_is_exported_as_it_was_simulated(tmp_path: Path) -> None:
    hub, plan, x = made(residual(tmp_path / "m.onnx"), "w4a4", (32, 3, 8, 8))
    graph = QuantizedGraph(hub, plan)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in graph.parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    learned = graph.plan()
    assert any(not np.array_equal(s.integers, learned.sites[n].integers) for n, s in plan.constants().items())
    (wanted,) = open_session(lower(hub, learned), optimize=False).run({"x": x})
    with torch.no_grad():
        given = graph(torch.from_numpy(x))[0].numpy()
    assert np.square(given - wanted).sum() < 1e-4 * np.square(wanted).sum()


def test_layers_that_share_a_weight_learn_one(tmp_path: Path) -> None:
    hub, plan, _ = made(tied(tmp_path / "m.onnx"), "int8", (32, 4, 32))
    layers = list(QuantizedGraph(hub, plan).layers.values())
    assert len(layers) == 2 and layers[0].quantize is layers[1].quantize


def test_what_a_plan_cannot_carry_is_frozen(tmp_path: Path) -> None:
    hub, plan, _ = made(attention(tmp_path / "m.onnx"), "int8", (32, 16, 32))
    graph = QuantizedGraph(hub, plan)
    learned = {n for n, p in graph.graph.weights().items() if p.requires_grad}
    assert learned == {layer.weight.name for layer in graph.layers.values()} | {
        layer.bias for layer in graph.layers.values() if layer.bias is not None
    }
    assert len(learned) < len(graph.graph.weights())  # the normalization is a weight too


def test_activations_of_4_bits_have_16_levels_where_weights_read_them(tmp_path: Path) -> None:
    hub, plan, x = made(residual(tmp_path / "m.onnx"), "w4a4", (32, 3, 8, 8))
    widths = {s.site.name: s.spec.dtype.bits for s in plan.edges().values() if s.spec is not None}
    assert widths["x"] == 8 and sorted(set(widths.values())) == [4, 8]
    exported = ir.to_proto(lower(hub, plan))
    clips = {n.output[0] for n in exported.graph.node if n.op_type == "Clip"}
    assert len(clips) == sum(bits == 4 for bits in widths.values())
    exported.graph.output.extend([type(exported.graph.output[0])(name=name) for name in sorted(clips)])
    for array in open_session(exported.SerializeToString()).run({"x": x})[1:]:
        assert array.dtype == np.uint8 and array.max() == 15
