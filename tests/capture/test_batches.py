from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.capture import collect as module
from fewbit.capture.batches import grouped
from fewbit.capture.collect import Observed, collect
from fewbit.core.affine import params_from_range
from fewbit.core.stats import TensorStats
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.spec import UINT8, QSpec
from tests.models import Builder

Feeds = list[dict[str, np.ndarray]]


def feeds(count: int, *shape: int, name: str = "x") -> Feeds:
    random = np.random.default_rng(count)
    return [{name: random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def network(path: Path, first: int | str = "N") -> Hub:
    b = Builder()
    inner = b.node("Relu", [b.node("Conv", ["x", b.weight(4, 3, 3, 3)])], "inner")
    b.node("Flatten", [b.node("Conv", [inner, b.weight(5, 4, 2, 2)], "last")], "y")
    return load(b.save(path, {"x": (first, 3, "H", "W")}, ["y"]))


SITES = {"x": 1, "inner": 1, "last": None}


def assert_same(batched: Observed, single: Observed) -> None:
    for name, wanted in single.stats.items():
        given: TensorStats = batched.stats[name]
        assert (given.samples, given.count, given.channel_count) == (wanted.samples, wanted.count, wanted.channel_count)
        for part in ("channel_min", "channel_max", "channel_mean", "ema_min", "ema_max"):
            np.testing.assert_allclose(getattr(given, part), getattr(wanted, part), rtol=1e-5, atol=1e-6)
        assert given.histogram.counts.sum() == wanted.histogram.counts.sum()


@pytest.mark.parametrize("count", [6, 7])
def test_statistics_are_those_of_one_by_one_and_the_last_batch_may_be_short(tmp_path: Path, count: int) -> None:
    hub, samples, advanced = network(tmp_path / "m.onnx"), feeds(count, 1, 3, 9, 11), []
    batched = collect(hub, SITES, samples, batch=3, advance=advanced.append)
    assert (batched.batch, batched.one_by_one) == (3, None)
    assert advanced == [3, 3, 1][: -(-count // 3)]
    assert_same(batched, collect(hub, SITES, samples))


def test_excerpts_of_a_batch_are_those_of_its_samples(tmp_path: Path) -> None:
    hub, samples = network(tmp_path / "m.onnx"), feeds(4, 1, 3, 9, 9)
    params = params_from_range(0.0, 0.5, QSpec(UINT8, symmetric=False))
    single, batched = (collect(hub, {"inner": 1}, samples, batch=n).excerpts["inner"].shifts(params) for n in (1, 4))
    assert single is not None and batched is not None and (single < -0.01).all()
    np.testing.assert_allclose(batched, single, rtol=1e-5)


def test_a_fixed_batch_of_one_runs_one_by_one(tmp_path: Path) -> None:
    hub, samples = network(tmp_path / "m.onnx", first=1), feeds(4, 1, 3, 9, 9)
    batched = collect(hub, SITES, samples, batch=4)
    assert batched.batch == 1 and batched.one_by_one == "the first axis of input x is fixed to 1"
    assert_same(batched, collect(hub, SITES, samples))


def test_a_model_that_mixes_its_samples_runs_one_by_one(tmp_path: Path) -> None:
    b = Builder()
    mean = b.node("ReduceMean", ["x"], axes=[0], keepdims=1)
    b.node("Relu", [b.node("Sub", ["x", b.node("Mul", [mean, b.constant(np.array(0.5, np.float32))])], "centred")], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 6)}, ["y"], opset=17))
    samples = feeds(5, 1, 6)
    batched = collect(hub, {"y": None}, samples, batch=4)
    assert batched.batch == 1 and batched.one_by_one == "y is not the same where its sample runs beside another"
    assert_same(batched, collect(hub, {"y": None}, samples))


def test_rows_that_are_not_samples_are_not_taken_for_them(tmp_path: Path) -> None:
    b = Builder()
    rows = b.node("Reshape", ["x", b.constant(np.array([-1, 4]))])
    b.node("Relu", [b.node("MatMul", [rows, b.weight(4, 5)], "inner")], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 3, 4)}, ["y"]))
    batched = collect(hub, {"inner": -1}, feeds(4, 1, 3, 4), batch=4)
    assert batched.batch == 1 and batched.one_by_one == "the first axis of inner does not count samples"


def test_a_model_that_fails_on_a_batch_runs_one_by_one(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", [b.node("Add", [b.node("Reshape", ["x", b.constant(np.array([1, 6]))]), "x"], "sum")], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", 6)}, ["y"]))
    batched = collect(hub, {"y": None}, feeds(4, 1, 6), batch=4)
    assert batched.batch == 1 and "does not run on several samples" in str(batched.one_by_one)


def test_samples_of_differing_shapes_are_not_stacked(tmp_path: Path) -> None:
    hub = network(tmp_path / "m.onnx")
    samples = [*feeds(1, 1, 3, 9, 9), *feeds(3, 1, 3, 9, 12), *feeds(2, 1, 3, 8, 9), *feeds(1, 1, 3, 9, 9)]
    advanced: list[int] = []
    batched = collect(hub, SITES, samples, batch=8, advance=advanced.append)
    assert advanced == [1, 3, 2, 1] and batched.batch == 3
    assert_same(batched, collect(hub, SITES, samples))


def test_samples_that_are_batches_already_stay_as_they_are() -> None:
    assert [len(group) for group in grouped([*feeds(3, 2, 4), *feeds(5, 1, 4)], 4)] == [1, 1, 1, 4, 1]
    other = [
        {"x": np.zeros((1, 4), np.float64)},
        {"x": np.zeros((1, 4), np.float32)},
        {"z": np.zeros((1, 4), np.float32)},
    ]
    assert [len(group) for group in grouped(other, 4)] == [1, 1, 1]


def test_a_sample_of_several_rows_stays_one_sample(tmp_path: Path) -> None:
    hub, rows = network(tmp_path / "m.onnx"), feeds(2, 3, 3, 9, 9)
    batched = collect(hub, SITES, rows, batch=4)
    assert batched.batch == 1 and batched.one_by_one == "the first sample has 3 rows of input x, not one"
    late = [*feeds(4, 1, 3, 9, 9), *rows]
    batched = collect(hub, SITES, late, batch=4)
    assert batched.batch == 4 and batched.stats["x"].samples == 6
    assert_same(batched, collect(hub, SITES, late))


def test_the_bytes_of_a_batch_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, samples = network(tmp_path / "m.onnx"), feeds(6, 1, 3, 9, 9)
    each = 4 * (3 * 81 + 4 * 49 + 5 * 36)
    monkeypatch.setattr(module, "_BATCH_BYTES", 2 * each + 1)
    assert collect(hub, SITES, samples, batch=6).batch == 2
    monkeypatch.setattr(module, "_BATCH_BYTES", 2 * each - 1)
    alone = collect(hub, SITES, samples, batch=6)
    assert alone.batch == 1 and alone.one_by_one == "the activations of two samples are larger than a batch may be"
