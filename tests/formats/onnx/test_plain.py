"""Plain QDQ: what every plan means, without idioms of a runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.data import open_source
from fewbit.errors import PlanError
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.formats.onnx.plain import lower_plain
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import INT8, INT16
from tests.models import Builder


def planned(path: Path, shape: tuple[int, ...], recipe: str = "int8", target: str = "litert-cpu") -> tuple[Hub, Plan]:
    hub = load(path)
    samples = np.random.default_rng(0).standard_normal((16, *shape)).astype(np.float32)
    source = open_source([{"x": x} for x in samples], inputs=hub_inputs(hub))
    job = Calibrator(hub, target_for(target), 1, SILENT, EFFORTS["standard"], source)
    return hub, job.plan(Recipe.get(recipe))


def sqnr(hub: Hub, lowered: ir.Model, shape: tuple[int, ...]) -> float:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    real, given = open_session(hub.model).run({"x": x})[0], open_session(lowered, config=SIMULATION).run({"x": x})[0]
    return float(10 * np.log10(np.square(real).sum() / np.square(real - given).sum()))


def test_an_unbalanced_depthwise_network_keeps_its_balance(tmp_path: Path) -> None:
    """The weights that read a balanced edge hold its factors: without them next to nothing is left."""
    b = Builder()
    spread = np.exp(np.random.default_rng(2).uniform(-4, 4, (32, 1, 1, 1))).astype(np.float32)
    x = b.node(
        "Relu", [b.node("Conv", ["x", b.constant(b.random.standard_normal((32, 3, 1, 1)).astype("f4") * spread)])]
    )
    x = b.node(
        "Relu",
        [b.node("Conv", [x, b.constant((b.random.standard_normal((32, 1, 3, 3)) / spread).astype("f4"))], group=32)],
    )
    b.node("Conv", [x, b.weight(4, 32, 1, 1)], "y")
    hub, plan = planned(b.save(tmp_path / "m.onnx", {"x": (1, 3, 8, 8)}, ["y"]), (1, 3, 8, 8))
    assert any(site.balance is not None for site in plan.edges().values())
    assert sqnr(hub, lower_plain(hub, plan), (1, 3, 8, 8)) > 15.0


@pytest.mark.parametrize(("recipe", "dtype", "least"), [("int8", INT8, 30.0), ("a16w8", INT16, 40.0)])
def test_activations_are_of_the_kind_that_the_target_takes(
    tmp_path: Path, recipe: str, dtype: object, least: float
) -> None:
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)])])
    b.node("Conv", [x, b.weight(4, 8, 1, 1)], "y")
    hub, plan = planned(b.save(tmp_path / "m.onnx", {"x": (1, 3, 8, 8)}, ["y"]), (1, 3, 8, 8), recipe)
    assert {site.spec.dtype for site in plan.edges().values() if site.spec} == {dtype}
    if dtype == INT16:
        assert all(int(site.params.zero_point) == 0 for site in plan.edges().values() if site.params)
    assert sqnr(hub, lower_plain(hub, plan), (1, 3, 8, 8)) > least


def test_a_product_between_float_nodes_is_dynamic_and_keeps_float_activations(tmp_path: Path) -> None:
    b = Builder()
    x = b.node("Add", [b.node("MatMul", ["x", b.weight(16, 64)]), b.weight(64)])
    b.node("MatMul", [b.node("Softmax", [x], axis=-1), b.weight(64, 8)], "y")
    hub, plan = planned(b.save(tmp_path / "m.onnx", {"x": (1, 4, 16)}, ["y"]), (1, 4, 16))
    assert Counter(plan.forms())["dynamic"] == 2 and not plan.edges()
    ops = Counter(node.op_type for node in lower_plain(hub, plan).graph)
    assert ops["DequantizeLinear"] == 2 and not ops["QuantizeLinear"]


def test_what_has_no_plain_form_is_refused(tmp_path: Path) -> None:
    b = Builder()
    b.node("Conv", ["x", b.weight(32, 16, 3, 3)], "y")
    hub, plan = planned(b.save(tmp_path / "m.onnx", {"x": (1, 16, 8, 8)}, ["y"]), (1, 16, 8, 8), "nf4", "ort-cpu")
    with pytest.raises(PlanError, match="is stored as nf4, which has no plain"):
        lower_plain(hub, plan)


def test_a_single_output_has_blocks_of_weights(tmp_path: Path) -> None:
    """128 inputs are four blocks, not channels that have one scale each."""
    b = Builder()
    b.node("MatMul", ["x", b.weight(128, 1)], "y")
    hub, plan = planned(b.save(tmp_path / "m.onnx", {"x": (1, 4, 128)}, ["y"]), (1, 4, 128), "int4-weights")
    lowered = lower_plain(hub, plan)
    (weight,) = (node for node in lowered.graph if node.op_type == "DequantizeLinear")
    assert weight.attributes["block_size"].as_int() == 32 and weight.inputs[1].shape.numpy() == (4, 1)
