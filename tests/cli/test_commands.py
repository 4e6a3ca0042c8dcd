"""The commands as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit import demo
from fewbit.runtimes.cpu import cpu_features
from tests.cli.test_bad_input import fewbit


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "q.onnx"
    done = fewbit("quantize", demo.MODEL, "-o", path, "--data", demo.CALIBRATION, "--json", "--keep-names")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["verification"]["kernels"]["integer"]["QLinearConv"] == 7
    assert document["path"] == str(path) and document["smaller"] > 0.6
    return path


def test_json_everywhere(quantized: Path) -> None:
    commands = (
        ("eval", quantized, "--eval", demo.EVALUATION, "--metric", "top1", "--baseline", demo.MODEL, "--limit", 50),
        ("bench", quantized, "--baseline", demo.MODEL, "--rounds", 3),
        ("compare", demo.MODEL, quantized, "--data", demo.CALIBRATION),
        ("inspect", demo.MODEL, "--recipe", "int8"),
        ("targets", "list"),
        ("targets", "show", "ort-cpu"),
        ("targets", "probe", "ort-cpu"),
    )
    for command in commands:
        done = fewbit(*command, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)
        assert len(done.stdout.strip().splitlines()) == 1
        plain = fewbit(*command)
        assert plain.returncode == 0 and plain.stdout.strip(), plain.stderr


@pytest.mark.skipif(cpu_features().vnni is not False, reason="weights of 8 bits are safe on this CPU")
def test_a_target_that_is_not_so_here_fails() -> None:
    done = fewbit("targets", "probe", "ort-cpu-vnni", "--json", "--quiet")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr == "" and not document["ok"]
    wrong = {p["op"] for p in document["probes"] if p["form"] == "accumulator" and not p["ok"]}
    assert wrong == {"QLinearConv 1×1", "QLinearConv 3×3", "QGemm", "MatMulInteger", "MatMulIntegerToFloat"}


def test_a_target_tells_how_wide_weights_may_be() -> None:
    told = " ".join(fewbit("targets", "show", "ort-cpu-avx2").stdout.split())
    assert "weights of up to 7 bits, 8 where two neighbours of one sign add up to at most 128 or the layer is" in told
    told = " ".join(fewbit("targets", "show", "ort-cpu-vnni").stdout.split())
    assert "weights of up to 8 bits op forms" in told


def test_inspect_gives_a_reason_for_every_node() -> None:
    document = json.loads(fewbit("inspect", demo.MODEL, "--recipe", "int8", "--json").stdout)
    assert document["plan"]["nodes"] and all(node["reason"] for node in document["plan"]["nodes"])
    assert any(rule["rule"] == "fold_batch_norm" and rule["applied"] for rule in document["rules"])


def test_the_demo(tmp_path: Path) -> None:
    done = fewbit("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert "top-1 on 597 images" in done.stdout
    assert {p.name.split("-")[0] for p in (tmp_path / "demo").iterdir()} == {"digits"}


def test_help_and_version() -> None:
    assert "quantize" in fewbit("--help").stdout
    assert fewbit("--version").stdout.startswith("fewbit 0.")
    bare = fewbit()
    assert bare.returncode == 0 and "quantize" in bare.stdout  # it asks for nothing, so it is shown what there is
