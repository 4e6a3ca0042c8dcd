"""Jobs on files of LiteRT, alone and beside ONNX."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import fewbit
from fewbit.errors import DataError, ModelError
from fewbit.flow.faces import aligned
from fewbit.runtimes.table import open_model
from tests.models import Builder, conv_relu_conv
from tests.tflite import TfliteBuilder, conv_net, conv_net_onnx, images


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same network in three forms; the int8 one has other names at its ends."""
    return {
        "onnx": conv_net_onnx(tmp_path / "m.onnx"),
        "float": conv_net(tmp_path / "float.tflite"),
        "int8": conv_net(tmp_path / "int8.tflite", quantized=True, suffix="_int8"),
    }


def first(count: int = 4) -> list[dict[str, np.ndarray]]:
    """Samples for the ONNX form."""
    return [{"image": image.transpose(2, 0, 1)[None]} for image in images(count)]


def labelled(count: int, name: str, last: bool) -> list[tuple[dict[str, np.ndarray], int]]:
    given = images(count) if last else images(count).transpose(0, 3, 1, 2)
    return [({name: given[i : i + 1]}, i) for i in range(count)]


def highest(outputs: list[list[np.ndarray]], labels: list[int]) -> float:
    """A number that depends on every output and on which sample it belongs to."""
    return float(np.mean([output[0].argmax() == label % 4 for output, label in zip(outputs, labels, strict=True)]))


@pytest.mark.parametrize(("name", "last"), [("image", False), ("x", True), ("x_int8", True)])
def test_one_metric_for_all_forms(files: dict[str, Path], name: str, last: bool) -> None:
    data = labelled(40, name, last)
    found = {}
    for model in ("float", "int8"):
        for baseline in ("onnx", "float"):
            result = fewbit.evaluate(files[model], data, highest, baseline=files[baseline])
            found[model, baseline] = result.value, result.baseline
    wanted = fewbit.evaluate(files["onnx"], labelled(40, "image", False), highest).value
    assert {base for _, base in found.values()} == {wanted}
    assert {found["float", base][0] for base in ("onnx", "float")} == {wanted}
    assert len({found["int8", base][0] for base in ("onnx", "float")}) == 1


def test_a_metric_of_fidelity_sees_real_numbers(files: dict[str, Path]) -> None:
    result = fewbit.evaluate(files["int8"], labelled(20, "image", False), "sqnr", baseline=files["onnx"])
    assert 25 < result.value < 60
    assert result.notes == [
        "input image is x_int8 and has its channels last in the model",
        "output scores is y_int8 in the model",
    ]


def test_comparing_across_formats(files: dict[str, Path]) -> None:
    same = fewbit.compare(files["onnx"], files["float"], first())
    assert [output.name for output in same.outputs] == ["scores"] and same.outputs[0].sqnr > 100
    assert [(x.op, x.comparison.name) for x in same.layers] == [("Relu", "hidden")]  # NCHW beside NHWC
    assert same.layers[0].comparison.sqnr > 100
    assert any("channels last in the quantized model" in note for note in same.notes)


def test_comparing_layer_by_layer(files: dict[str, Path]) -> None:
    result = fewbit.compare(files["float"], files["int8"], [{"x": x[None]} for x in images(4)])
    assert [(x.op, x.comparison.name) for x in result.layers] == [("CONV_2D", "hidden"), ("RESHAPE", "flat")]
    assert 25 < result.outputs[0].sqnr < 60 and 25 < result.layers[0].comparison.sqnr < 60
    assert result.layers[1].lost == 0
    assert result.notes == ["input x is x_int8 in the quantized model", "output y is y_int8 in the quantized model"]


def test_a_layout_that_cannot_be_told_is_said(tmp_path: Path) -> None:
    b = Builder()
    b.node("Relu", ["x"], "y")
    onnx = open_model(b.save(tmp_path / "m.onnx", {"x": (1, 8, 8, 8)}, ["y"]))
    t = TfliteBuilder()
    for name in ("x", "y"):
        t.tensor(name, (1, 8, 8, 8))
    t.op("RELU", ["x"], ["y"])
    lite = open_model(t.save(tmp_path / "m.tflite", ["x"], ["y"]))
    session, notes = aligned(onnx, lite, "b")
    assert session is lite
    assert notes == [f"{name} may have its channels first or last in b: it is taken as it is" for name in ("x", "y")]


def test_models_that_have_nothing_in_common(files: dict[str, Path], tmp_path: Path) -> None:
    other = conv_relu_conv(tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"the quantized model has other outputs: y float32 .*where y float32"):
        fewbit.compare(files["float"], other, first())
    with pytest.raises(DataError, match=r"takes x float32 \[\?, 8, 8, 3\]"):
        fewbit.evaluate(files["float"], [({"image": np.zeros((1, 3, 9, 9), np.float32)}, 0)], highest)


def test_onnx_models_with_the_same_inputs_may_have_other_outputs(tmp_path: Path) -> None:
    files = []
    for extra in ([], ["more"]):
        b = Builder()
        b.node("Relu", ["x"], "y")
        b.node("Neg", ["x"], "more")
        files.append(b.save(tmp_path / f"{len(extra)}.onnx", {"x": (1, 4)}, ["y", *extra]))
    data = [({"x": np.eye(4, dtype=np.float32)[i : i + 1]}, i) for i in range(4)]
    assert fewbit.evaluate(files[0], data, highest, baseline=files[1]).baseline == 1
    assert fewbit.benchmark(files[0], baseline=files[1], rounds=3).notes[0].startswith("timed on random inputs")
    with pytest.raises(ModelError, match="the quantized model has other outputs"):
        fewbit.compare(*files, [feed for feed, _ in data])


def test_timing_beside_other_formats(files: dict[str, Path]) -> None:
    for model, baseline in (("int8", "float"), ("int8", "onnx"), ("onnx", "float")):
        result = fewbit.benchmark(files[model], baseline=files[baseline], batch=(1, 3), rounds=3)
        assert [t.batch for t in result.timings] == [1, 3]
        assert all(t.baseline is not None and t.model.ratio > 0 for t in result.timings)
        assert 1e5 < result.memory < 1e8 and result.baseline_memory is not None
        assert result.runtime.split()[0] == ("onnxruntime" if model == "onnx" else "litert")
        assert result.execution is not None and result.baseline_execution is not None
    assert result.execution.kernels.float_heavy == {"Conv": 1, "Gemm": 1}
    assert result.baseline_execution.arena is not None and result.baseline_execution.arena.bytes == 1280


def test_timing_on_samples_of_the_baseline(files: dict[str, Path]) -> None:
    result = fewbit.benchmark(files["int8"], baseline=files["onnx"], data=first(1), rounds=3)
    assert "input image is x_int8 and has its channels last in the model" in result.notes


MLPERF = ("mlperf_ad_autoencoder", "mlperf_ic_resnet8", "mlperf_kws_dscnn")


@pytest.mark.zoo
@pytest.mark.parametrize("name", MLPERF)
def test_float_files_of_both_formats_agree(zoo: ModuleType, name: str) -> None:
    case = zoo.load(name)
    result = fewbit.compare(case.model, case.folder / "model_float.tflite", case.calibration, limit=4)
    assert result.outputs[0].sqnr > 90


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "samples", "golden"),
    [("mlperf_ad_autoencoder", 248, 0.8594), ("mlperf_ic_resnet8", 400, 0.89), ("mlperf_kws_dscnn", 400, 0.8925)],
)
def test_metrics_of_the_references(zoo: ModuleType, name: str, samples: int, golden: float) -> None:
    """Half a point: two answers in 400, as XNNPACK's kernels and the plain ones differ by one."""
    case = zoo.load(name)
    data = list(zip(case.evaluation(samples), range(samples), strict=False))
    int8 = fewbit.evaluate(
        case.folder / "ref_int8.tflite", data, case.score, baseline=case.folder / "model_float.tflite"
    )
    assert abs(int8.value - golden) < 0.005
    same = fewbit.evaluate(case.folder / "model_float.tflite", data, case.score, baseline=case.model)
    assert same.value == int8.baseline and same.change is not None and abs(same.change) < 1e-4


@pytest.mark.zoo
@pytest.mark.parametrize("name", MLPERF)
def test_what_runs_of_the_references(zoo: ModuleType, name: str) -> None:
    folder = zoo.load(name).folder
    result = fewbit.benchmark(folder / "ref_int8.tflite", baseline=folder / "model_float.tflite", rounds=3)
    assert result.execution is not None and result.baseline_execution is not None
    assert not result.execution.kernels.float_heavy and not result.baseline_execution.kernels.integer
    assert result.execution.arena is not None and result.baseline_execution.arena is not None
    assert result.execution.arena.bytes * 4 == result.baseline_execution.arena.bytes
