"""The commands on files of LiteRT, as a user runs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from tests.cli.test_bad_input import fewbit, npz, refused
from tests.tflite import conv_net, conv_net_onnx, images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three forms of a network, and samples for two of them."""
    where = tmp_path_factory.mktemp("litert")
    conv_net_onnx(where / "m.onnx")
    conv_net(where / "float.tflite")
    conv_net(where / "int8.tflite", quantized=True)
    labels = np.arange(20) % 4
    npz(where / "last.npz", x=images(20), labels=labels)
    npz(where / "first.npz", image=images(20).transpose(0, 3, 1, 2), labels=labels)
    return where


def document(*arguments: object) -> dict[str, object]:
    done = fewbit(*arguments, "--json", "-q")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.strip().splitlines()) == 1
    found: dict[str, object] = json.loads(done.stdout)
    plain = fewbit(*arguments, "-q")
    assert plain.returncode == 0 and plain.stdout.strip() and plain.stderr == "", plain.stderr
    return found


def test_eval(folder: Path) -> None:
    metric = ("--metric", "top1")
    values = [
        document(
            "eval", folder / "float.tflite", "--eval", folder / "last.npz", *metric, "--baseline", folder / "m.onnx"
        ),
        document(
            "eval", folder / "m.onnx", "--eval", folder / "first.npz", *metric, "--baseline", folder / "float.tflite"
        ),
        document("eval", folder / "float.tflite", "--eval", folder / "first.npz", *metric),
    ]
    assert len({value["value"] for value in values}) == 1
    assert values[0]["change"] == values[1]["change"] == 0
    assert values[2]["notes"] == ["samples: input image is x and has its channels last in the model"]


def test_bench(folder: Path) -> None:
    found = document("bench", folder / "int8.tflite", "--baseline", folder / "float.tflite", "--rounds", 3)
    assert str(found["runtime"]).startswith("litert ") and found["baseline_runtime"] == found["runtime"]
    execution = found["execution"]
    assert isinstance(execution, dict)
    assert execution["kernels"]["integer"] == {"CONV_2D": 1, "FULLY_CONNECTED": 1} and execution["arena_bytes"] == 320
    plain = fewbit("bench", folder / "int8.tflite", "--baseline", folder / "m.onnx", "--rounds", 3).stdout
    assert "XNNPACK" in plain and "not in it: nothing" in plain and "320 B on a microcontroller" in plain
    assert "baseline onnxruntime" in " ".join(plain.split())


def test_compare(folder: Path) -> None:
    found = document("compare", folder / "m.onnx", folder / "float.tflite", "--data", folder / "first.npz")
    assert isinstance(found["outputs"], list) and found["outputs"][0]["sqnr_db"] > 100
    found = document("compare", folder / "float.tflite", folder / "int8.tflite", "--data", folder / "last.npz")
    assert isinstance(found["layers"], list) and [x["op"] for x in found["layers"]] == ["CONV_2D", "RESHAPE"]


def test_wrong_files(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((folder / "int8.tflite").read_bytes()[:600])
    data = ("--eval", folder / "last.npz", "--metric", "top1")
    refused(fewbit("eval", broken, *data), "LiteRT", "cannot load", "broken.tflite")
    refused(fewbit("bench", broken), "LiteRT", "cannot load")
    refused(fewbit("compare", folder / "float.tflite", broken, "--data", folder / "last.npz"), "cannot load")
    refused(fewbit("eval", tmp_path / "absent.tflite", *data), "absent.tflite does not exist")


def test_wrong_samples(folder: Path, tmp_path: Path) -> None:
    data = npz(tmp_path / "d.npz", x=np.zeros((2, 9, 9, 3), np.float32), labels=np.zeros(2))
    refused(
        fewbit("eval", folder / "int8.tflite", "--eval", data, "--metric", "top1"),
        "'x'",
        "[?, 8, 8, 3]",
        "[1, 9, 9, 3]",
    )
    data = npz(tmp_path / "u.npz", x=np.zeros((2, 8, 8, 3), np.uint8), labels=np.zeros(2))
    refused(fewbit("eval", folder / "int8.tflite", "--eval", data, "--metric", "top1"), "float32", "uint8")


@pytest.mark.zoo
def test_a_published_model(zoo: ModuleType) -> None:
    source = Path(str(sys.modules["zoo"].__file__))
    folder = source.parent / "mlperf_kws_dscnn"
    found = document(
        "eval",
        folder / "ref_int8.tflite",
        *("--eval", f'{source}:evaluation("mlperf_kws_dscnn")', "--metric", f'{source}:metric("mlperf_kws_dscnn")'),
        *("--baseline", folder / "model.onnx"),
    )
    assert found["baseline"] == 0.905 and abs(float(str(found["value"])) - 0.8925) < 0.005
