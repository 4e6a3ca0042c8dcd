"""Wrong input: one line on stderr, exit code 2, no traceback, and no output file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fewbit import demo
from tests.models import Builder, conv_relu_conv


def fewbit(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fewbit", *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def quantize(tmp_path: Path) -> Callable[..., None]:
    """Quantize with these arguments and expect an error that holds these words, and no file."""

    def run(model: object, *options: object, says: tuple[str, ...], data: object = demo.CALIBRATION) -> None:
        out = tmp_path / "out" / "quantized.onnx"
        out.parent.mkdir(exist_ok=True)
        refused(fewbit("quantize", model, "-o", out, *([] if data is None else ["--data", data]), *options), *says)
        assert list(out.parent.iterdir()) == []

    return run


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_not_an_onnx_file(quantize: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("hello, this is no model")
    quantize(tmp_path / "model.onnx", says=("not an ONNX model",))


def test_missing_file(quantize: Callable[..., None], tmp_path: Path) -> None:
    quantize(tmp_path / "absent.onnx", says=("does not exist",))


def test_truncated(quantize: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "half.onnx").write_bytes(demo.MODEL.read_bytes()[:100_000])
    quantize(tmp_path / "half.onnx", says=("truncated",))


def test_missing_external_data(quantize: Callable[..., None], tmp_path: Path) -> None:
    model = onnx.load(demo.MODEL)
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    quantize(tmp_path / "big.onnx", says=("weights.bin",))


def test_external_data_that_escapes_its_folder(quantize: Callable[..., None], tmp_path: Path) -> None:
    model = onnx.load(demo.MODEL)
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    escaped = onnx.load(tmp_path / "big.onnx", load_external_data=False)
    for tensor in escaped.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.bin"
    (tmp_path / "big.onnx").write_bytes(escaped.SerializeToString())
    quantize(tmp_path / "big.onnx", says=("../secret.bin",))


def test_wrong_input_name(quantize: Callable[..., None], tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", picture=np.zeros((4, 1, 8, 8), np.float32))
    quantize(demo.MODEL, data=data, says=("'image'", "picture"))


def test_wrong_shape(quantize: Callable[..., None], tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", image=np.zeros((4, 8, 8, 1), np.float32))
    quantize(demo.MODEL, data=data, says=("shape", "[N, 1, 8, 8]", "[1, 8, 8, 1]"))


def test_wrong_dtype(quantize: Callable[..., None], tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", image=np.zeros((4, 1, 8, 8), np.uint8))
    quantize(demo.MODEL, data=data, says=("float32", "uint8"))


def test_nan_in_data(quantize: Callable[..., None], tmp_path: Path) -> None:
    images = np.zeros((4, 1, 8, 8), np.float32)
    images[2, 0, 3, 3] = np.nan
    quantize(demo.MODEL, data=npz(tmp_path / "d.npz", image=images), says=("sample 2", "'image'", "NaN"))


def test_infinity_in_weights(quantize: Callable[..., None], tmp_path: Path) -> None:
    model = onnx.load(demo.MODEL)
    tensor = next(t for t in model.graph.initializer if t.name == "conv1.weight")
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0] = np.inf
    array[1, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "bad.onnx")
    quantize(tmp_path / "bad.onnx", says=("'conv1.weight'", "10"))


def test_no_samples(quantize: Callable[..., None], tmp_path: Path) -> None:
    quantize(demo.MODEL, data=npz(tmp_path / "d.npz", image=np.zeros((0, 1, 8, 8), np.float32)), says=("no samples",))
    quantize(demo.MODEL, data=None, says=("needs samples", "--data"))
    (tmp_path / "empty").mkdir()
    quantize(demo.MODEL, data=tmp_path / "empty", says=("neither .npz files nor images",))


def test_already_quantized(quantize: Callable[..., None], tmp_path: Path) -> None:
    first = tmp_path / "int8.onnx"
    assert fewbit("quantize", demo.MODEL, "-o", first, "--data", demo.CALIBRATION, "-q").returncode == 0
    quantize(first, says=("quantized already",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "int9"], ("'int9'", "int8")),
        (["--recipe", "absent.yaml"], ("absent.yaml",)),
        (["--target", "ort-gpu"], ("'ort-gpu'", "ort-cpu")),
        (["--exclude", "Conw"], ("Conw", "matches nothing")),
        (["--plan", "absent.json"], ("absent.json",)),
    ],
)
def test_unknown_names(quantize: Callable[..., None], options: list[str], says: tuple[str, ...]) -> None:
    quantize(demo.MODEL, *options, says=says)


def test_unknown_metric() -> None:
    refused(fewbit("eval", demo.MODEL, "--eval", demo.EVALUATION, "--metric", "top2"), "'top2'", "top1")


def test_metric_without_labels() -> None:
    refused(fewbit("eval", demo.MODEL, "--eval", demo.CALIBRATION, "--metric", "top1"), "labels")


def test_plan_of_another_graph(quantize: Callable[..., None], tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    made = fewbit(
        "quantize", demo.MODEL, "-o", tmp_path / "a.onnx", "--data", demo.CALIBRATION, "--save-plan", plan, "-q"
    )
    assert made.returncode == 0, made.stderr
    other = conv_relu_conv(tmp_path / "other.onnx")
    quantize(other, "--plan", plan, data=None, says=("another graph",))


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    options = ["--data", demo.CALIBRATION]
    refused(fewbit("quantize", demo.MODEL, "-o", tmp_path / "no" / "folder.onnx", *options), "does not exist")
    refused(fewbit("quantize", demo.MODEL, "-o", tmp_path, *options), "is a folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system here: {mounted.stderr.decode().strip()}")
    try:
        done = fewbit("quantize", demo.MODEL, "-o", disk / "out.onnx", "--data", demo.CALIBRATION)
        refused(done, "No space left")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_users_source_that_raises(quantize: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text("def samples():\n    yield {}['image']\n")
    quantize(demo.MODEL, data=f"{tmp_path / 'source.py'}:samples", says=("KeyError", "source.py:2"))
    quantize(demo.MODEL, data=f"{tmp_path / 'source.py'}:sampels", says=("did you mean samples?",))
    quantize(demo.MODEL, data=f"{tmp_path / 'source.py'}:samples(open('x'))", says=("literals",))


def test_recipe_file_errors_name_the_field(quantize: Callable[..., None], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("rules: [{match: {op: Conv}, weight: {bits: 8}}]")
    quantize(demo.MODEL, "--recipe", recipe, says=("rules.0.weight.bits",))
    recipe.write_text("base: int8\nrules: [{match: {name: 'head*'}, compute: float}]")
    quantize(demo.MODEL, "--recipe", recipe, says=("rule 2", "matches nothing"))


def test_a_model_without_anything_to_quantize_is_told(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    model = b.save(tmp_path / "relu.onnx", {"x": (1, 4)}, ["y"])
    refused(fewbit("quantize", model, "-o", tmp_path / "out.onnx"), "nothing to quantize")
    assert not (tmp_path / "out.onnx").exists()


def test_the_float_model_is_not_overwritten(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(demo.MODEL.read_bytes())
    refused(fewbit("quantize", model, "-o", model, "--data", demo.CALIBRATION), "is the model itself")
    assert model.read_bytes() == demo.MODEL.read_bytes()


def test_a_plan_that_cannot_be_saved_stops_the_work_before_it_starts(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    options = ["--data", demo.CALIBRATION, "--save-plan", tmp_path / "no" / "plan.json"]
    refused(fewbit("quantize", demo.MODEL, "-o", out, *options), "plan.json", "does not exist")
    assert not out.exists()


def test_interrupting_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        "import numpy as np, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without\n"
        "def samples():\n"
        "    yield {'image': np.zeros((1, 1, 8, 8), np.float32)}\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    yield {'image': np.zeros((1, 1, 8, 8), np.float32)}\n"
    )
    done = fewbit("quantize", demo.MODEL, "-o", tmp_path / "out.onnx", "--data", f"{source}:samples")
    assert done.returncode == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == {"source.py"}
