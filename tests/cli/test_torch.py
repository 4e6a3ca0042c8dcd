"""The commands take PyTorch's files where a model is expected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fewbit import demo
from tests.cli.test_bad_input import fewbit, refused
from tests.cli.warm import Warm

pytest.importorskip("torch", reason="torch is an extra")
pytest.importorskip("onnxscript", reason="onnxscript comes with the extra torch")

from tests.formats.torch import networks

FACTORY = f"{networks.__file__}:Small"


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """The command without the time that importing torch takes."""
    with Warm() as command:
        yield command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small module in every kind of file, samples, and the module from `weights.pth` quantized."""
    folder = tmp_path_factory.mktemp("torch")
    networks.save_all(folder)
    random = np.random.default_rng(0)
    np.savez(folder / "samples.npz", x=random.standard_normal((24, 4)).astype(np.float32), labels=np.arange(24) % 3)
    np.savez(folder / "named.npz", image=random.standard_normal((4, 4)).astype(np.float32))
    samples = ("--data", folder / "samples.npz", "--keep-names", "--json", "-q")
    done = fewbit("quantize", folder / "weights.pth", "-o", folder / "q.onnx", "--factory", FACTORY, *samples)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verification"]["outputs"][0]["sqnr_db"] > 25
    return folder


def test_eval_compare_and_bench_beside_the_float_module(folder: Path, warm: Warm) -> None:
    samples, program = folder / "samples.npz", folder / "program.pt2"
    done = warm("compare", program, folder / "q.onnx", "--data", samples, "--json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (output,) = json.loads(done.stdout)["outputs"]
    assert output["name"] == "output" and output["sqnr_db"] > 25
    scored = warm(
        "eval",
        folder / "q.onnx",
        "--eval",
        samples,
        "--metric",
        "top1",
        "--baseline",
        folder / "scripted.pt",
        "--json",
        "-q",
    )
    assert scored.returncode == 0, scored.stderr
    assert abs(json.loads(scored.stdout)["change"]) <= 1 / 12
    timed = warm("bench", folder / "q.onnx", "--baseline", program, "--rounds", 3, "--json", "-q")
    assert timed.returncode == 0, timed.stderr
    assert json.loads(timed.stdout)["timings"][0]["baseline"]["milliseconds"] > 0


def test_inspect_with_shapes_instead_of_samples(folder: Path) -> None:
    shape = ("--input-shape", "x=1x4", "--dynamic", "x:0=rows")
    done = fewbit("inspect", folder / "traced.pt", *shape, "--recipe", "int8", "--json")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    document = json.loads(done.stdout)
    assert document["path"] == str(folder / "traced.pt")
    assert document["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["rows", 4]}]
    assert {node["name"] for node in document["plan"]["nodes"]} >= {"first", "second"}


def test_what_the_import_could_not_keep_is_said(folder: Path, warm: Warm) -> None:
    file = folder / "fixed.py"
    file.write_text(
        "import torch\n\nclass Fixed(torch.nn.Linear):\n    def forward(self, x):\n"
        "        return super().forward(x).reshape(2, -1)\n\ndef build():\n    return Fixed(4, 3)\n"
    )
    networks.torch.save(networks.nn.Linear(4, 3).state_dict(), folder / "fixed.pth")
    done = warm("inspect", folder / "fixed.pth", "--factory", f"{file}:build", "--input-shape", "x=2x4")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "the batch is fixed: the module's code fixes x: axis 0\n"


def test_wrong_input_is_one_line(folder: Path, warm: Warm) -> None:
    out = ("-o", folder / "out.onnx")
    traced, samples = folder / "traced.pt", folder / "samples.npz"
    refused(fewbit("quantize", traced, *out), "needs example inputs", "--input-shape", "forward takes (x")
    refused(
        warm("quantize", traced, *out, "--data", folder / "named.npz"),
        "the example inputs (image) do not fit the model, missing a required argument: 'x'; forward takes (x",
    )
    refused(warm("quantize", folder / "whole.pt", *out, "--data", samples), "is refused: unpickling it would run")
    refused(warm("quantize", folder / "weights.pth", *out, "--data", samples), "give what builds the module, --factory")
    refused(warm("inspect", folder / "q.onnx", "--dynamic", "x:0=n"), "dynamic_shapes: only for PyTorch models")
    refused(warm("inspect", traced, "--input-shape", "x=axb"), "must have the form name=1x3x224x224")
    assert not (folder / "out.onnx").exists()


def test_without_samples(warm: Warm, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    done = warm("quantize", demo.MODEL, "-o", out, "--data", "synthetic", "--limit", 2, "--effort", "fast", "--json")
    assert done.returncode == 0 and out.exists(), done.stderr
    document = json.loads(done.stdout)
    assert document["calibration"]["synthetic"] == "the statistics of 7 batch normalizations"
    assert document["calibration"]["samples"] == 2 and document["verification"]["inputs"] == "synthetic samples"
    refused(warm("compare", demo.MODEL, out, "--data", "synthetic"), "comparison needs real samples")


def test_images_do_not_say_how_large_the_input_is(folder: Path, warm: Warm) -> None:
    from PIL import Image

    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "0.png")
    done = warm("quantize", folder / "traced.pt", "-o", folder / "out.onnx", "--data", folder / "images")
    refused(done, "holds images", "give --input-shape name=1x3x224x224")
