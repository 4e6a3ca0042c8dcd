"""The examples run, and do what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fewbit import demo
from tests.cli.test_bad_input import fewbit
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


def test_every_example_is_run_here() -> None:
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == {
        "quantize_and_compare.py",
        "recipe.yaml",
        "my_task.py",
        "pytorch.py",
        "qat_plain.py",
        "qat_lightning.py",
    }


def test_quantize_and_compare(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "quantize_and_compare.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'QLinearConv': 7" in done.stdout and "dB less than what it reads" in done.stdout
    assert {"digits-int8.onnx", "plan.json"} <= {p.name for p in tmp_path.iterdir()}


def test_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript comes with the extra torch")
    command = [sys.executable, str(EXAMPLES / "pytorch.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "features.0 (Conv): integer" in done.stdout and "dB against the module" in done.stdout
    assert (tmp_path / "net-int8.onnx").is_file()


def test_recipe(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    recipe = ("--recipe", EXAMPLES / "recipe.yaml", "--json", "-q")
    done = fewbit(
        "quantize", demo.MODEL, "-o", tmp_path / "q.onnx", "--data", demo.CALIBRATION, "--save-plan", plan, *recipe
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["recipe"] == "careful" and document["verification"]["outputs"][0]["sqnr_db"] > 25
    sites = {site["name"]: site for site in json.loads(plan.read_text())["sites"]}
    assert {s["method"] for s in sites.values() if s["kind"] == "edge"} >= {"percentile", "mse"}
    forms = {node["name"]: node["form"] for node in json.loads(plan.read_text())["nodes"]}
    assert (forms["conv0"], forms["scores"]) == ("integer", "float")
    assert [len(sites[f"conv{n}.weight"]["block_shape"]) for n in (2, 3, 4)] == [4, 0, 0]


def test_samples_and_a_metric_of_ones_own(tmp_path: Path) -> None:
    file, out = EXAMPLES / "my_task.py", tmp_path / "q.onnx"
    made = fewbit("quantize", demo.MODEL, "-o", out, "--data", f'{file}:samples("calibration")', "-q")
    assert made.returncode == 0, made.stderr
    source = f'{file}:samples("evaluation", noise=0.1)'
    metric = f"{file}:balanced_accuracy"
    done = fewbit("eval", out, "--eval", source, "--metric", metric, "--baseline", demo.MODEL, "--json", "-q")
    assert done.returncode == 0, done.stderr
    scored = json.loads(done.stdout)
    assert scored["value"] > 0.95 and scored["baseline"] > 0.95 and scored["samples"] == 597


@pytest.mark.slow
def test_training_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    done = _run("qat_plain.py", tmp_path)
    assert done.returncode == 0, done.stderr
    (real,), int8, narrow = ([float(x) for x in re.findall(r"\d\.\d+", line)] for line in done.stdout.splitlines())
    assert real > 0.9 and int8[1] > real - 0.02 and narrow[1] > narrow[0]
    assert len(list(tmp_path.glob("*.onnx"))) == 4


@pytest.mark.slow
def test_training_with_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("onnxscript")
    done = _run("qat_lightning.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.9
    assert {"trained.ckpt", "int8.onnx"} <= {p.name for p in tmp_path.iterdir()}


def _run(example: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
