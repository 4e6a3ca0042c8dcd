"""fewbit data and fewbit sensitivity as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fewbit import demo
from tests.cli.test_bad_input import fewbit, npz, refused


def test_sensitivity() -> None:
    options = (demo.MODEL, "--data", demo.CALIBRATION, "--recipe", "int8-weights", "--recipe", "int8", "--samples", 2)
    done = fewbit("sensitivity", *options, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["samples"] == 2 and document["target"] == "ort-cpu"
    assert [r["recipe"] for r in document["recipes"]] == ["int8-weights", "int8"]
    assert {"dtype", "noise", "sqnr_db", "bytes", "bytes_saved"} == set(document["layers"][0]["formats"]["int8"])
    plain = fewbit("sensitivity", *options, "--quiet")
    assert plain.returncode == 0 and plain.stderr == ""
    words = " ".join(plain.stdout.split())
    assert "the loudest first" in words and "watch in int8:" in words and "conv1" in words


def test_check_and_select(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.npz"
    done = fewbit("data", "select", demo.EVALUATION, "--model", demo.MODEL, "-o", chosen, "-n", 20, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert len(document["positions"]) == 20 and document["classes"] == 10 and document["samples"] == 597
    done = fewbit(
        "data", "check", chosen, "--model", demo.MODEL, "--eval", demo.EVALUATION, "--metric", "top1", "--json"
    )
    assert done.returncode == 0, done.stderr  # with warnings
    document = json.loads(done.stdout)
    assert document["samples"] == 20 and document["leakage"]["exact"][0][0] == 0
    assert any(w.startswith("20 samples are among those for evaluation too") for w in document["warnings"])
    plain = fewbit("data", "check", demo.CALIBRATION, "--model", demo.MODEL, "--quiet")
    assert plain.returncode == 0 and "nothing speaks against them" in plain.stdout and plain.stderr == ""
    plain = fewbit("data", "select", demo.CALIBRATION, "--model", demo.MODEL, "-o", chosen, "-n", 8, "-q")
    words = " ".join(plain.stdout.split())
    assert "chosen.npz: 8 of 128 samples from" in words and "share of the ranges reached" in words


def test_refused(tmp_path: Path) -> None:
    bad = npz(tmp_path / "bad.npz", image=np.full((3, 1, 8, 8), np.nan, np.float32))
    model = ("--model", demo.MODEL)
    refused(
        fewbit("data", "check", bad, *model, "-q"), "3 of 3 samples of the data are unusable", "clean the samples first"
    )
    refused(fewbit("data", "check", tmp_path / "absent.npz", *model), "does not exist")
    refused(fewbit("data", "check", demo.CALIBRATION, *model, "--metric", "top9", "-q"), "'top9'")
    refused(fewbit("data", "check", demo.CALIBRATION), "--model", "see fewbit data check --help")
    refused(fewbit("data", "select", demo.CALIBRATION, *model, "-o", tmp_path / "o.npz", "-n", 500, "-q"), "has 128")
    refused(
        fewbit("data", "select", demo.CALIBRATION, *model, "-o", tmp_path / "o.npz", "-n", 0),
        "see fewbit data select --help",
    )
    refused(
        fewbit("sensitivity", demo.MODEL, "--data", demo.CALIBRATION, "--recipe", "int9"),
        "'int9' does not exist",
        "int8",
    )
    refused(fewbit("sensitivity", demo.MODEL, "--data", demo.CALIBRATION, "--target", "tpu"), "'tpu' does not exist")
    refused(fewbit("sensitivity", demo.MODEL), "--data")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"]
