"""Tuning: better than the start, bounded, resumable, and clear about what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import DataError, InputError, ModelError, OutputError, PlanError, RecipeError
from fewbit.flow.duration import seconds
from fewbit.flow.tune import TuneResult
from tests.models import Builder, conv_relu_conv

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def convs(tmp_path: Path) -> Path:
    return conv_relu_conv(tmp_path / "m.onnx")


def integers(result: TuneResult) -> dict[str, np.ndarray]:
    return {n: s.integers for n, s in result.plan.constants().items() if s.integers is not None}


def test_training_makes_the_loss_in_the_runtime_smaller(
    convs: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewbit.torchgraph.distill import Rates

    monkeypatch.setattr("fewbit.torchgraph.distill.Rates", lambda: Rates(0.1, 1e-2, 1e-2))  # for 100 updates
    recipe = {"base": "w4a8", "rules": [{"weight": {"dtype": "int2"}}]}
    result = fewbit.tune(convs, images, recipe, out=tmp_path / "q.onnx", epochs=20, block_updates=0, batch=8)
    assert result.end < 0.95 * result.start
    assert result.losses[0] == pytest.approx(result.start, rel=1e-3)
    assert min(result.losses) == pytest.approx(result.end, rel=1e-3)
    assert (result.samples, result.held_back) == (40, 4) and len(result.losses) > 5
    assert (tmp_path / "q.onnx").exists() and result.quantized.verification is not None


def test_one_seed_gives_one_result(convs: Path, images: np.ndarray) -> None:
    first, again, other = (
        fewbit.tune(convs, images, "w2a8", epochs=2, block_updates=9, batch=8, seed=seed, effort="fast")
        for seed in (1, 1, 2)
    )
    assert first.losses == again.losses != other.losses
    assert first.blocks == again.blocks != other.blocks
    for name, array in integers(first).items():
        np.testing.assert_array_equal(array, integers(again)[name])


def test_what_training_makes_worse_is_not_kept(convs: Path, images: np.ndarray) -> None:
    def worse(outputs: dict, targets: dict, labels: list) -> object:  # nothing to gain: constant, with gradients
        return sum(y.sum() for y in outputs.values()) * 0.0 + 1.0

    result = fewbit.tune(convs, images, "w4a8", epochs=1, block_updates=3, loss=worse, effort="fast")
    assert result.start == result.end == 1.0
    assert any("training did not help" in note for note in result.notes)


def test_a_loss_of_nan_ends_with_the_best_so_far(convs: Path, images: np.ndarray) -> None:
    calls = []

    def sometimes(outputs: dict, targets: dict, labels: list) -> object:
        y, t = outputs["y"], targets["y"]
        calls.append(y.requires_grad)
        bad = y.requires_grad and sum(calls) > 6
        return (y - t).square().mean() * (float("nan") if bad else 1.0)

    options = {"batch": 8, "loss": sometimes, "effort": "fast"}
    result = fewbit.tune(convs, images, "w2a8", epochs=9, block_updates=0, **options)
    assert any("training ended after 1 epochs: the loss was not a finite number" in note for note in result.notes)
    assert len(result.losses) == 2 and np.isfinite(result.end)
    result = fewbit.tune(convs, images, "w2a8", epochs=9, block_updates=9, **options)  # by now NaN from the start
    assert any("the error of block 1 was not a finite number: it is left as it was" in n for n in result.notes)
    assert result.blocks[0][0] == result.blocks[0][1] and result.start == result.end


def test_further_samples_are_learned_from_and_not_judged_by(convs: Path, images: np.ndarray) -> None:
    plain, more = (
        fewbit.tune(convs, images, "w2a8", epochs=1, block_updates=0, batch=8, augment=count, effort="fast")
        for count in (0, 20)
    )
    assert (more.samples, more.held_back) == (plain.samples, plain.held_back) == (40, 4)
    assert more.start == plain.start
    assert more.losses[0] == plain.losses[0] and more.losses[1] != plain.losses[1]


def test_samples_of_a_fixed_batch_add_up_their_gradients(tmp_path: Path, images: np.ndarray) -> None:
    def model(first: object) -> Path:
        b = Builder()
        b.node("Conv", ["x", b.weight(4, 3, 3, 3), b.weight(4)], "y")
        return b.save(tmp_path / f"{first}.onnx", {"x": (first, 3, 8, 8)}, ["y"])

    joined, single = (
        fewbit.tune(model(n), images, "w2a8", epochs=2, block_updates=0, batch=8, effort="fast") for n in ("N", 1)
    )
    np.testing.assert_allclose(joined.losses, single.losses, rtol=1e-3)


def test_labels_reach_the_loss(convs: Path, images: np.ndarray) -> None:
    seen: list[object] = []

    def loss(outputs: dict, targets: dict, labels: list) -> object:
        seen.extend(labels)
        return (outputs["y"] - targets["y"]).square().mean()

    fewbit.tune(
        convs,
        [({"x": x[None]}, i) for i, x in enumerate(images)],
        "w4a8",
        epochs=1,
        block_updates=1,
        loss=loss,
        effort="fast",
    )
    assert set(seen) == set(range(40))


def test_blocks_are_reconstructed_before_the_whole_learns(tmp_path: Path, images: np.ndarray) -> None:
    """What was better stays: two blocks, each with a residual connection."""
    model = residual(tmp_path / "m.onnx")
    recipe = {"base": "w4a8", "rules": [{"weight": {"dtype": "int2"}}]}
    result = fewbit.tune(model, images, recipe, epochs=1, block_updates=50, batch=8, effort="fast")
    assert len(result.blocks) == 2 and all(after <= before for before, after in result.blocks)
    assert result.blocks[0][1] < result.blocks[0][0] and result.end < result.start
    assert len(result.losses) == 3  # before, after the blocks, after the epoch


def residual(path: Path) -> Path:
    """A stem, two residual blocks of two convolutions, and a dense layer."""
    b = Builder(seed=3)
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)])])
    for _ in range(2):
        y = b.node("Relu", [b.node("Conv", [x, b.weight(8, 8, 3, 3, scale=0.1), b.weight(8)], pads=[1, 1, 1, 1])])
        y = b.node("Conv", [y, b.weight(8, 8, 3, 3, scale=0.1), b.weight(8)], pads=[1, 1, 1, 1])
        x = b.node("Relu", [b.node("Add", [x, y])])
    y = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.node("Gemm", [y, b.weight(5, 8), b.weight(5)], "y", transB=1)
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


_RUN = """
import os, signal, sys
import numpy as np, fewbit
from fewbit.torchgraph.checkpoint import Checkpoint
model, data, session, stage, count = sys.argv[1:]
save, seen = Checkpoint.save, []
def killing(self, path):
    save(self, path)
    seen.append(self.stage)
    if seen.count(stage) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.save = killing
fewbit.tune(model, data, "w2a8", epochs=3, block_updates=9, batch=8, session=session)
"""


@pytest.fixture(scope="module")
def whole(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> TuneResult:
    path = residual(tmp_path_factory.mktemp("whole") / "m.onnx")
    return fewbit.tune(path, images, "w2a8", epochs=3, block_updates=9, batch=8)


@pytest.mark.parametrize(("stage", "count"), [("start", 1), ("blocks", 1), ("distill", 2)])
def test_a_killed_run_goes_on_to_the_same_result(
    images: np.ndarray, tmp_path: Path, whole: TuneResult, stage: str, count: int
) -> None:
    model, data, session = residual(tmp_path / "m.onnx"), tmp_path / "x.npz", tmp_path / "session"
    np.savez(data, x=images)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, model, data, session, stage, str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = fewbit.tune(model, data, "w2a8", epochs=3, block_updates=9, batch=8, session=session, resume=True)
    assert resumed.losses == whole.losses and resumed.end == whole.end and resumed.blocks == whole.blocks
    for name, array in integers(whole).items():
        np.testing.assert_array_equal(array, integers(resumed)[name])


def test_a_session_of_another_job_is_refused(convs: Path, images: np.ndarray, tmp_path: Path) -> None:
    session = tmp_path / "session"
    options = {"epochs": 1, "block_updates": 1, "session": session, "effort": "fast"}
    fewbit.tune(convs, images, "w2a8", **options)
    with pytest.raises(PlanError, match=r"is of another job: batch was 32, now 4"):
        fewbit.tune(convs, images, "w2a8", **options, batch=4, resume=True)
    with pytest.raises(PlanError, match=r"is of another job: samples was [0-9a-f]+, now [0-9a-f]+"):
        fewbit.tune(convs, images + 1, "w2a8", **options, resume=True)
    with pytest.raises(OutputError, match="is not empty: --resume"):
        fewbit.tune(convs, images, "w2a8", **options)
    (session / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(PlanError, match="cannot be read"):
        fewbit.tune(convs, images, "w2a8", **options, resume=True)


def test_the_clock_is_the_schedule_where_no_epochs_are_given(convs: Path, images: np.ndarray, tmp_path: Path) -> None:
    options: dict[str, Any] = {"block_updates": 0, "batch": 8, "effort": "fast", "session": tmp_path / "run"}
    result = fewbit.tune(convs, images, "w2a8", time_limit="6s", **options)
    assert any("the time is used up" in n or "no better for a quarter of the time" in n for n in result.notes)
    with pytest.raises(RecipeError, match="begun with a time limit, by which its rates fall: give --time"):
        fewbit.tune(convs, images, "w2a8", resume=True, **options)


def test_epochs_that_a_time_limit_ended_go_on(
    convs: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewbit.flow.tune.PATIENCE", 10**9)
    options: dict[str, Any] = {"block_updates": 0, "batch": 8, "effort": "fast", "session": tmp_path / "run"}
    short = fewbit.tune(convs, images, "w2a8", epochs=10**6, time_limit="5s", **options)
    longer = fewbit.tune(convs, images, "w2a8", epochs=10**6, time_limit="5s", resume=True, **options)
    assert len(longer.losses) > len(short.losses) and longer.losses[: len(short.losses)] == short.losses


def test_the_time_limit_ends_what_the_epochs_would_not(convs: Path, images: np.ndarray) -> None:
    result = fewbit.tune(convs, images, "w2a8", epochs=10**6, time_limit="6s", batch=8, effort="fast")
    assert any("the time is used up" in note or "no better for" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"data": None}, RecipeError, "training needs samples"),
        ({"data": np.zeros((4, 3, 8), np.float32)}, DataError, r"takes shape \[N, 3, 8, 8\], given \[1, 3, 8\]"),
        ({"data": np.ones((1, 3, 8, 8), np.float32)}, DataError, "at least 2 samples.*1 were given"),
        ({"time_limit": "soon"}, RecipeError, "'soon' is no duration"),
        ({"block_updates": -1}, RecipeError, "block_updates must be at least 0, given -1"),
        ({"augment": -1}, RecipeError, "augment must be at least 0, given -1"),
        ({"augment": 9, "loss": lambda *_: 1.0}, RecipeError, "no labels for a loss of your own"),
        ({"epochs": 0}, RecipeError, "epochs must be at least 1, given 0"),
        ({"device": "tpu"}, RecipeError, "device 'tpu' does not exist"),
        ({"resume": True}, RecipeError, "give its folder with --session"),
        ({"recipe": "nf4"}, InputError, "nothing in this model"),
        ({"block_updates": 0, "loss": lambda *_: 1.0}, DataError, "must give one number as a tensor.*not float"),
    ],
)
def test_what_is_wrong_is_said(
    convs: Path, images: np.ndarray, change: dict, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        fewbit.tune(convs, **{"data": images, "recipe": "w4a8", "effort": "fast", **change})


def squared(outputs: dict, targets: dict, labels: object) -> object:
    return sum((outputs[name] - targets[name]).square().mean() for name in outputs)


def test_a_loss_that_turns_nan_ends_it_with_the_best_so_far(convs: Path, images: np.ndarray) -> None:
    calls = 0

    def later(*args: object) -> object:
        nonlocal calls
        calls += 1
        return squared(*args) * (float("nan") if calls == 16 else 1.0)  # type: ignore[arg-type,operator]

    # an epoch is 5 updates and a look at the samples held back, of which there is one before the first
    result = fewbit.tune(convs, images, "w2a8", epochs=6, block_updates=0, batch=8, loss=later, effort="fast")
    assert len(result.losses) == 3 and np.isfinite(result.losses).all() and result.end <= result.start
    assert any(
        "ended after 2 epochs: the loss was not a finite number; the best state is kept" in n for n in result.notes
    )
    with pytest.raises(ModelError, match="is nan before any training"):
        fewbit.tune(convs, images, "w2a8", epochs=1, effort="fast", loss=lambda *a: squared(*a) * float("nan"))  # type: ignore[operator]


def test_a_session_of_another_graph_is_refused(convs: Path, images: np.ndarray, tmp_path: Path) -> None:
    fewbit.tune(convs, images, "w2a8", epochs=1, effort="fast", session=tmp_path / "run")
    other = conv_relu_conv(tmp_path / "other.onnx", channels=16)
    with pytest.raises(PlanError, match=r"session .*run is of another graph: .*another --session folder"):
        fewbit.tune(other, images, "w2a8", epochs=1, effort="fast", session=tmp_path / "run", resume=True)


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), (2.5, 2.5)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.zoo
@pytest.mark.slow
def test_a_residual_network_at_2_bits_gains(zoo: object) -> None:
    """On its 512 calibration images alone, and briefly: the loss in the runtime on those held back."""
    case = zoo.load("cifar10_resnet20")  # type: ignore[attr-defined]
    result = fewbit.tune(case.model, list(case.calibration()), "w2a8", epochs=2, block_updates=100)
    assert sum(after < before for before, after in result.blocks) >= 3
    assert result.end < 0.9 * result.start
