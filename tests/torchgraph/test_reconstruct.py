"""Blocks learn their roundings: soft rounding by its equations, and block outputs nearer to those in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.data import open_source
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.graph.load import load
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from tests.models import Builder

torch = pytest.importorskip("torch")

from fewbit.torchgraph import training  # noqa: E402
from fewbit.torchgraph.quantized import QuantizedGraph  # noqa: E402
from fewbit.torchgraph.reconstruct import ReconstructionRates, Reconstructor  # noqa: E402
from fewbit.torchgraph.samples import Samples  # noqa: E402
from fewbit.torchgraph.scaled import _Round  # noqa: E402
from fewbit.torchgraph.soft_rounding import SoftRounding, exponent  # noqa: E402

CPU = torch.device("cpu")


def test_soft_weights_begin_where_they_are_and_end_at_the_nearest_integer() -> None:
    units = torch.tensor([0.25, -1.75, 3.4, -9.0, 9.0])  # of −8..3: the last three reach over the ends
    soft = SoftRounding(units, (-8, 3))
    np.testing.assert_allclose(soft().detach(), [0.25, -1.75, 3.0, -8.0 + 0.01, 3.0], atol=1e-5)
    assert soft.integers().tolist() == [0.0, -2.0, 3.0, -8.0, 3.0]
    with torch.no_grad():
        soft.v.fill_(5.0)
    assert soft.integers().tolist() == [1.0, -1.0, 3.0, -7.0, 3.0] == soft().tolist()


def test_what_is_undecided_is_equation_24() -> None:
    soft = SoftRounding(torch.tensor([0.25, 0.5, 2.0]), (-2, 2))
    assert soft.undecided(2.0).item() == pytest.approx((1 - 0.5**2) + 1.0, abs=1e-5)  # the third has but one integer
    assert (exponent(0.0), exponent(1.0)) == (20.0, 2.0)


def test_a_clipped_weight_may_only_come_back() -> None:
    v = torch.tensor([-3.0, -3.0, 0.4, 5.0, 5.0], requires_grad=True)
    q = _Round.apply(v, (-2, 1))
    assert q.tolist() == [-2.0, -2.0, 0.0, 1.0, 1.0]
    q.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))  # descent goes against the gradient
    assert v.grad.tolist() == [0.0, -1.0, 1.0, 1.0, 0.0]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """Two residual blocks of two convolutions each behind a stem, weights of 2 bits rounded to the nearest."""
    b = Builder(seed=3)
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)])])
    for _ in range(2):
        y = b.node("Relu", [b.node("Conv", [x, b.weight(8, 8, 3, 3, scale=0.1), b.weight(8)], pads=[1, 1, 1, 1])])
        y = b.node("Conv", [y, b.weight(8, 8, 3, 3, scale=0.1), b.weight(8)], pads=[1, 1, 1, 1])
        x = b.node("Relu", [b.node("Add", [x, y])], "y" if _ else None)
    path = b.save(Path(tmp_path_factory.mktemp("net")) / "m.onnx", {"x": ("N", 3, 8, 8)}, ["y"])
    hub = load(path)
    images = np.random.default_rng(0).standard_normal((80, 3, 8, 8)).astype(np.float32)
    source = open_source({"x": images}, inputs=hub_inputs(hub))
    recipe = Recipe.get({"base": "w4a8", "rules": [{"weight": {"dtype": "int2"}}]})
    plan = Calibrator(hub, target_for("ort-cpu"), 1, SILENT, EFFORTS["fast"], source).plan(recipe)
    return hub, plan, source


def reconstruct(
    job: tuple[Any, ...], updates: int = 100, memory: int = 1 << 29
) -> tuple[QuantizedGraph, Reconstructor, Samples]:
    hub, plan, source = job
    with training.gather(hub, source, memory, SILENT, 1) as samples:
        graph = training.prepare(hub, plan, CPU)
        made = Reconstructor(
            graph,
            samples,
            range(60),
            range(60, 80),
            iterations=updates,
            loss=training.loss_for(hub, samples, None),
            batch=16,
            rates=ReconstructionRates(),
            seed=0,
            device=CPU,
        )
        names = set(samples._shelf.names())
        made.run()
        assert set(samples._shelf.names()) == names  # nothing is kept that nobody reads any more
    return graph, made, samples


def test_blocks_come_closer_to_what_they_give_in_float(job: tuple[Any, ...]) -> None:
    graph, made, _ = reconstruct(job)
    assert len(made.errors) == len(made.blocks) == 2
    assert all(after < 0.95 * before for before, after in made.errors)
    assert all(layer.quantize.soft is None for layer in graph.layers.values())
    assert all(edge.drop == 0.0 for edge in graph.edges.values())


def test_values_that_do_not_fit_into_memory_give_the_same(job: tuple[Any, ...]) -> None:
    assert reconstruct(job, 5, memory=0)[1].errors == reconstruct(job, 5)[1].errors
