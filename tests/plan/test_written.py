"""A hub with the biases of its plan written into it computes what the plan says, and takes biases where it had none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto

from fewbit.capture.collect import fetch
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.plan.written import with_biases
from fewbit.targets import get_target
from tests.models import Builder


def planned(path: Path) -> tuple[object, Plan]:
    b = Builder()
    shared = b.weight(4)
    x = b.node("Conv", ["x", b.weight(4, 3, 1, 1), shared], "a")
    x = b.node("Conv", [x, b.weight(4, 4, 1, 1), shared], "b")
    x = b.node("Conv", [x, b.weight(4, 4, 1, 1)], "c")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])], "flat")
    b.node("Add", [b.node("MatMul", [x, b.weight(4, 2)]), b.weight(1, 2)], "y")
    hub = load(b.save(path, {"x": (1, 3, 4, 4)}, ["y"]), normalize=False)
    return hub, resolve(hub, Recipe.get("int8"), get_target("ort-cpu"))


def test_biases_are_those_of_the_plan(tmp_path: Path) -> None:
    hub, plan = planned(tmp_path / "m.onnx")
    node = {str(n.outputs[0].name): str(n.name) for n in hub.nodes()}
    new = np.arange(4, dtype=np.float32)
    written, names = with_biases(hub, replace(plan, biases={node["b"]: new, node["c"]: new + 1}))
    assert set(names) >= {node["a"], node["b"], node["c"]} and len(set(names.values())) == len(names) == 4
    feed = {"x": np.ones((1, 3, 4, 4), np.float32)}
    (was,) = fetch(hub, ["a", "b", "c"], [feed])
    (now,) = fetch(written, ["a", "b", "c"], [feed])
    assert np.array_equal(was["a"], now["a"])  # the bias that it shared with the next is its own now
    shared = hub.constant(hub.value("b").producer().inputs[2])
    np.testing.assert_allclose(
        now["b"] - was["b"], np.broadcast_to((new - shared)[:, None, None], now["b"].shape), atol=1e-5
    )
    weight = hub.constant(hub.value("c").producer().inputs[1])[:, :, 0, 0]
    moved = weight @ (new - shared) + new + 1  # c had no bias
    np.testing.assert_allclose(now["c"] - was["c"], np.broadcast_to(moved[:, None, None], now["c"].shape), atol=1e-4)


def test_without_biases_in_the_plan_nothing_changes(tmp_path: Path) -> None:
    hub, plan = planned(tmp_path / "m.onnx")
    written, names = with_biases(hub, plan)
    feed = {"x": np.full((1, 3, 4, 4), 0.5, np.float32)}
    (was,), (now,) = fetch(hub, ["y"], [feed]), fetch(written, ["y"], [feed])
    np.testing.assert_allclose(was["y"], now["y"], rtol=1e-6)
    assert all(written.constant(written.value(name)) is not None for name in names.values())


def test_an_embedding_has_no_bias(tmp_path: Path) -> None:
    b = Builder()
    rows = b.node("Gather", [b.weight(64, 32), "ids"], "rows")
    b.node("Add", [b.node("MatMul", [rows, b.weight(32, 32)]), b.weight(32)], "y")
    path = b.save(tmp_path / "m.onnx", {"ids": (1, 4)}, ["y"], dtypes={"ids": TensorProto.INT64})
    hub = load(path, normalize=False)
    plan = resolve(hub, Recipe.get("int4-weights"), get_target("ort-cpu"))
    written, names = with_biases(hub, plan)
    assert {plan.nodes[str(n.name)].weight is not None for n in hub.nodes() if n.op_type in ("Gather", "MatMul")} == {
        True
    }
    assert len(names) == 1 and all(len(n.inputs) == 2 for n in written.nodes())
