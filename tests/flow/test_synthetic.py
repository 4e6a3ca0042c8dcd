"""Calibration without samples: made from what the model remembers, labelled wherever the result is seen, or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import fewbit
from fewbit.capture.collect import collect
from fewbit.errors import DataError, MissingExtraError, RecipeError
from fewbit.flow.inspect import inspect
from fewbit.flow.synthetic import calibration_source
from fewbit.graph.hub import Hub
from fewbit.graph.load import load
from fewbit.graph.normals import remembered_normals
from fewbit.measure.compare import OutputComparison
from fewbit.plan.plan import Plan
from fewbit.progress import SILENT
from fewbit.report.inspect import render as render_inspect
from fewbit.report.quantize import render
from fewbit.runtimes.onnxruntime import open_session
from tests.models import Builder, conv_relu_conv

pytest.importorskip("torch", reason="torch is an extra")


def made(hub: Hub, count: int = 8, seed: int = 0) -> list[dict[str, np.ndarray]]:
    source = calibration_source(
        "synthetic", hub, limit=count, preprocess=None, purpose="", threads=1, seed=seed, progress=SILENT
    )
    assert source.count == count and source.synthetic is not None
    return list(source.feeds())


def distance(hub: Hub, feeds: list[dict[str, np.ndarray]]) -> float:
    """How far channel means are from those that are remembered, in parts of the remembered deviation."""
    normals = remembered_normals(hub)
    seen = collect(hub, dict.fromkeys(normals, 1), feeds).stats
    away = [np.square(seen[n].channel_mean - w.mean).sum() / np.square(w.std).sum() for n, w in normals.items()]
    return float(np.sqrt(np.mean(away)))


def normalized(path: Path) -> Path:
    """x → BatchNormalization that goes into the Conv after it → Relu → one that stays → Relu → Conv → one that is folded."""
    b = Builder()

    def norm(x: str, channels: int) -> str:
        gain, shift, mean, variance = (b.random.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(4))
        return b.node("BatchNormalization", [x, *map(b.constant, (gain, shift, mean, variance))])

    x = b.node("Relu", [b.node("Conv", [norm("x", 3), b.weight(8, 3, 1, 1), b.weight(8)])])
    x = b.node("Relu", [norm(x, 8)])
    x = norm(b.node("Conv", [x, b.weight(8, 8, 3, 3)]), 8)
    b.node("Conv", [b.node("Relu", [x]), b.weight(4, 8, 1, 1), b.weight(4)], "y")
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def tokens(path: Path, indices: bool = True) -> Path:
    """Embedding of [N, L] int64 → MatMul; with a mask of attention over L."""
    b = Builder()
    x = b.node("Gather", [b.weight(50, 16), "ids"]) if indices else b.node("Cast", ["ids"], to=TensorProto.FLOAT)
    if not indices:
        x = b.node("Unsqueeze", [x, b.constant(np.array([2]))])
        x = b.node("Expand", [x, b.constant(np.array([1, 1, 16]))])
    scores = b.node("MatMul", [x, b.node("Transpose", [b.node("MatMul", [x, b.weight(16, 16)])], perm=[0, 2, 1])])
    shown = b.node("Cast", [b.node("Unsqueeze", ["mask", b.constant(np.array([1]))])], to=TensorProto.FLOAT)
    hidden = b.node("Mul", [b.node("Sub", [b.constant(np.float32(1)), shown]), b.constant(np.float32(-1e4))])
    weights = b.node("Softmax", [b.node("Add", [scores, hidden])], axis=-1)
    b.node("MatMul", [b.node("MatMul", [weights, x]), b.weight(16, 8)], "y")
    dtypes = {"ids": TensorProto.INT64, "mask": TensorProto.INT64}
    return b.save(path, {"ids": ("N", "L"), "mask": ("N", "L")}, ["y"], dtypes=dtypes)


def test_activations_have_the_statistics_that_are_remembered(digits: Path) -> None:
    hub = load(digits)
    feeds = made(hub)
    assert {feed["image"].shape for feed in feeds} == {(1, 1, 8, 8)}
    random = np.random.default_rng(0)
    noise = [{"image": random.standard_normal((1, 1, 8, 8)).astype(np.float32)} for _ in range(8)]
    assert distance(hub, feeds) < 0.15 < 3 * 0.15 < distance(hub, noise)


def test_a_seed_says_which_samples(digits: Path) -> None:
    hub = load(digits)
    first, again, other = (np.stack([feed["image"] for feed in made(hub, 2, seed)]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_all_batch_normalizations_are_remembered(tmp_path: Path) -> None:
    hub = load(normalized(tmp_path / "m.onnx"))
    assert [node.op_type for node in hub.nodes()].count("BatchNormalization") == 1
    normals = remembered_normals(hub)
    assert len(normals) == 3 and "x" in normals
    assert all(normal.mean.min() >= 0.5 and normal.std.max() <= 1.5 for normal in normals.values())


@pytest.mark.parametrize("batch", [1, 2, "N"])
def test_samples_of_a_fixed_batch_are_matched_together(tmp_path: Path, batch: Any) -> None:
    b = Builder()
    mean, variance = np.array([100.0, 120.0, 90.0], np.float32), np.array([900.0, 400.0, 1600.0], np.float32)
    norm = b.node("BatchNormalization", ["x", b.weight(3), b.weight(3), b.constant(mean), b.constant(variance)])
    b.node("Conv", [norm, b.weight(4, 3, 1, 1), b.weight(4)], "y")
    feeds = made(load(b.save(tmp_path / "m.onnx", {"x": (batch, 3, 8, 8)}, ["y"])), 6)
    assert [feed["x"].shape for feed in feeds] == [(1 if batch == "N" else batch, 3, 8, 8)] * 6
    given = np.concatenate([feed["x"] for feed in feeds])
    np.testing.assert_allclose(given.mean((0, 2, 3)), mean, rtol=0.05)
    np.testing.assert_allclose(given.std((0, 2, 3)), np.sqrt(variance), rtol=0.1)
    assert np.ptp(given.mean((1, 2, 3))) > 10  # together, not each by itself


def test_plan_result_and_inspect_say_so(digits: Path, tmp_path: Path) -> None:
    result = fewbit.quantize(digits, "synthetic", limit=4, effort="fast", min_sqnr=0)
    label = "the statistics of 7 batch normalizations"
    document = result.to_dict()
    assert document["calibration"]["synthetic"] == label and document["calibration"]["samples"] == 4
    assert document["verification"]["synthetic_inputs"] and document["verification"]["inputs"] == "synthetic samples"
    assert any("no real data was seen" in note for note in document["notes"])
    assert shown(render(document)).count("synthetic") >= 3
    result.plan.save(str(tmp_path / "plan.json"))
    assert Plan.load(str(tmp_path / "plan.json")).calibration["synthetic"] == label
    assert label in shown(render_inspect(inspect(digits, plan=tmp_path / "plan.json").to_dict()))
    used = fewbit.quantize(digits, plan=tmp_path / "plan.json", verify=False)
    assert any("no real data was seen" in note for note in used.notes)


@pytest.mark.parametrize(("recipe", "labelled"), [("int4-weights", True), ("fp16", False)])
def test_only_what_had_a_say_is_told(digits: Path, recipe: str, labelled: bool) -> None:
    plan = fewbit.quantize(digits, "synthetic", recipe, limit=2, verify=False).plan
    assert ("synthetic" in plan.calibration) == labelled
    assert any("synthetic" in note for note in plan.notes) == labelled


def test_real_samples_are_not_called_synthetic(digits: Path, samples: Path) -> None:
    result = fewbit.quantize(digits, samples, limit=4, effort="fast", min_sqnr=0)
    assert "synthetic" not in result.plan.calibration and not result.verification.synthetic  # type: ignore[union-attr]
    assert "synthetic" not in shown(render(result.to_dict()))


@pytest.mark.slow
def test_better_than_noise(digits: Path, samples: Path) -> None:
    with np.load(samples) as stored:
        images = stored["image"].astype(np.float32)
    lowest, highest = images.min(), images.max()
    noise = np.random.default_rng(0).uniform(lowest, highest, (64, *images.shape[1:])).astype(np.float32)
    found = {}
    for name, data in {"synthetic": "synthetic", "noise": noise}.items():
        quantized = fewbit.quantize(digits, data, min_sqnr=0, verify=False)
        comparison = OutputComparison("scores")
        sessions = open_session(digits), open_session(quantized.model)
        for image in images[:100]:
            real, other = (session.run({"image": image[None]})[0] for session in sessions)
            comparison.update(real, other)
        found[name] = comparison.sqnr
    assert found["synthetic"] > found["noise"] + 1.0, found


def test_tune_trains_on_them_and_says_so(digits: Path) -> None:
    result = fewbit.tune(digits, "synthetic", limit=4, epochs=1, effort="fast")
    assert result.samples == 4 and "synthetic" in result.plan.calibration
    assert any("no real data was seen" in note for note in result.to_dict()["notes"])


def test_tokens_are_drawn_from_the_table(tmp_path: Path) -> None:
    feeds = made(load(tokens(tmp_path / "m.onnx")), 3)
    ids = np.concatenate([feed["ids"] for feed in feeds])
    assert ids.shape == (3, 128) and ids.dtype == np.int64
    assert (ids.min(), ids.max()) == (0, 49)
    assert all((feed["mask"] == 1).all() for feed in feeds)
    plan = fewbit.quantize(tmp_path / "m.onnx", "synthetic", limit=2, verify=False).plan
    assert plan.calibration["synthetic"] == "random tokens"


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no batch normalization.*give --data, or a recipe that needs no samples"):
        fewbit.quantize(conv_relu_conv(tmp_path / "a.onnx"), "synthetic")
    with pytest.raises(DataError, match=r"input ids int64 .* neither an index into an embedding nor a mask"):
        fewbit.quantize(tokens(tmp_path / "b.onnx", indices=False), "synthetic")
    b = Builder()
    norm = b.node(
        "BatchNormalization",
        [b.node("Conv", ["x", b.weight(4, 3, 1, 1)]), *(b.weight(4) for _ in range(3)), b.constant(np.ones(4, "f4"))],
    )
    b.node("Conv", [norm, b.weight(4, 4, 1, 1)], "y")
    free = b.save(tmp_path / "c.onnx", {"x": ("N", 3, "H", "W")}, ["y"])
    with pytest.raises(DataError, match=r"sizes H, W of input x .* are free"):
        fewbit.quantize(free, "synthetic")
    with pytest.raises(RecipeError, match="comparison needs real samples"):
        fewbit.compare(free, free, "synthetic")


def test_without_torch_the_error_has_the_command(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r"Synthesizing samples needs the package torch: pip install 'fewbit\[torch\]'"
    ):
        fewbit.quantize(digits, "synthetic")


def shown(renderable: Any) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
