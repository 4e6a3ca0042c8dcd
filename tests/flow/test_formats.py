"""Which format and target are meant, and files that are verified in the runtime they are for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import fewbit
from fewbit.errors import DataError, MissingExtraError, ModelError, RecipeError, VerificationError
from fewbit.flow import formats
from fewbit.flow.formats import FORMATS, Details, target_name
from fewbit.graph.hub import Hub
from fewbit.runtimes.table import open_model
from fewbit.spec import INT4
from tests.absent import hide
from tests.models import Builder, conv_relu_conv


@pytest.fixture
def convs(tmp_path: Path) -> Path:
    return conv_relu_conv(tmp_path / "m.onnx")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("target", "format", "out", "expected"),
    [
        (None, None, None, "ort-cpu"),
        (None, None, "m.onnx", "ort-cpu"),
        (None, None, "m.tflite", "litert-cpu"),
        (None, "litert", "m", "litert-cpu"),
        ("ort-cpu-vnni", None, "m.tflite", "ort-cpu-vnni"),
    ],
)
def test_the_target_that_is_meant(target: str | None, format: str | None, out: str | None, expected: str) -> None:
    assert target_name(target, format, out) == expected


def test_formats_that_do_not_fit_are_refused(convs: Path, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="format 'gguf' does not exist; use onnx, litert"):
        fewbit.quantize(convs, images, format="gguf")
    with pytest.raises(RecipeError, match="target ort-cpu writes onnx, not litert"):
        fewbit.quantize(convs, images, target="ort-cpu", format="litert")
    with pytest.raises(RecipeError, match=r"has the ending \.onnx; this target writes \.tflite"):
        fewbit.quantize(convs, images, target="litert-cpu", out=tmp_path / "q.onnx")


def test_a_missing_runtime_is_told_before_the_work(
    convs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide("ai_edge_litert", monkeypatch)

    def samples() -> list[np.ndarray]:
        raise AssertionError("no sample is wanted yet")

    with pytest.raises(MissingExtraError, match=r"pip install 'fewbit\[litert\]'"):
        fewbit.quantize(convs, samples, out=tmp_path / "q.tflite")


class TestLiteRt:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ai_edge_litert")

    def test_int8(self, convs: Path, images: np.ndarray, tmp_path: Path) -> None:
        out = tmp_path / "q.tflite"
        result = fewbit.quantize(convs, images, out=out)
        seen = result.verification
        assert seen is not None and seen.runtime.startswith("litert ")
        assert seen.kernels.integer["CONV_2D"] == 2 and not seen.kernels.float_heavy
        assert seen.outputs[0].sqnr > 25.0 and seen.simulation[0].sqnr > 60.0
        assert result.bytes == out.stat().st_size and result.plan.target == "litert-cpu"
        assert open_model(out).inputs == ["x"]

    @pytest.mark.parametrize(("recipe", "least"), [("fp16", 60.0), ("int8-weights", 30.0), ("int8-dynamic", 30.0)])
    def test_recipes_without_ranges(self, tmp_path: Path, recipe: str, least: float) -> None:
        b = Builder()
        x = b.node("Relu", [b.node("MatMul", ["x", b.weight(32, 64)])])
        b.node("MatMul", [x, b.weight(64, 32)], "y")
        path = b.save(tmp_path / "m.onnx", {"x": (1, 4, 32)}, ["y"])
        result = fewbit.quantize(path, recipe=recipe, out=tmp_path / "q.tflite")
        assert result.verification is not None and result.verification.outputs[0].sqnr > least
        assert set(result.plan.forms()) & {"storage", "dynamic"}

    def test_open_sizes_are_those_of_the_first_sample_and_told(self, tmp_path: Path) -> None:
        b = Builder()
        b.node("MatMul", ["x", b.weight(32, 64)], "y")
        path = b.save(tmp_path / "m.onnx", {"x": ("N", "T", 32)}, ["y"])
        with pytest.raises(DataError, match=r"open sizes, and a \.tflite file has fixed ones: give --data"):
            fewbit.quantize(path, recipe="int8-weights", out=tmp_path / "q.tflite")
        samples = [{"x": np.ones((1, 5, 32), np.float32)}] * 2
        result = fewbit.quantize(path, samples, recipe="int8-weights", out=tmp_path / "q.tflite")
        assert any("those of the first sample: x [1, 5, 32]" in note for note in result.notes)
        assert open_model(tmp_path / "q.tflite").input_shapes()["x"][1][1:] == [5, 32]

    def test_layers_are_compared_where_names_are_kept(self, tmp_path: Path) -> None:
        b = Builder()
        x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)])], "first")
        x = b.node("Relu", [b.node("Conv", [x, b.weight(8, 8, 3, 3), b.weight(8)])], "second")
        b.node("Conv", [x, b.weight(4, 8, 1, 1)], "y")
        path = b.save(tmp_path / "m.onnx", {"x": (1, 3, 8, 8)}, ["y"])
        images = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
        fewbit.quantize(path, images, out=tmp_path / "q.tflite", keep_names=True)
        found = fewbit.compare(path, tmp_path / "q.tflite", images)
        assert {layer.comparison.name for layer in found.layers} >= {"first", "second"}
        assert all(layer.comparison.sqnr > 20.0 for layer in found.layers)

    def test_4_bit_weights_in_blocks(self, tmp_path: Path) -> None:
        """64 inputs are two blocks; 48 leave a rest, so that layer has one scale a channel and computes in float."""
        b = Builder()
        x = b.node("Relu", [b.node("MatMul", ["x", b.weight(64, 48)])])
        b.node("MatMul", [x, b.weight(48, 32)], "y")
        path = b.save(tmp_path / "m.onnx", {"x": (1, 4, 64)}, ["y"])
        result = fewbit.quantize(path, recipe="int4-weights", out=tmp_path / "q.tflite")
        first, second = (site.spec for site in result.plan.constants().values())
        assert first is not None and second is not None
        assert first.block_shape == (32, 1) and first.dtype == second.dtype == INT4 and second.block_shape == (-1, 1)
        assert set(result.plan.forms()) == {"weight_only", "storage", "float"}
        assert result.verification is not None and result.verification.outputs[0].sqnr > 15.0
        assert min(o.sqnr for o in result.verification.simulation) > 30.0

    def test_what_was_trained_for_it(self, tmp_path: Path) -> None:
        torch = pytest.importorskip("torch")
        import fewbit.torch as qat

        net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)).eval()
        x = torch.randn(4, 3, 8, 8)
        prepared = qat.prepare(net, x, data=[{"input": x[i : i + 1].numpy()} for i in range(4)], target="litert-cpu")
        result = qat.export(prepared, tmp_path / "q.tflite")
        assert any("dB of the trained module" in note for note in result.notes)
        assert result.verification is not None and result.verification.kernels.integer["CONV_2D"] == 2

    def test_a_file_whose_channels_are_last_takes_samples_of_either_layout(self, tmp_path: Path) -> None:
        """The same samples in both layouts give the same file; inputs and outputs stay as they were."""
        from tests.tflite import conv_net
        from tests.tflite import images as pictures

        conv_net(tmp_path / "m.tflite")
        last = pictures(16)
        files = []
        for name, samples in (("last", {"x": last}), ("first", {"image": last.transpose(0, 3, 1, 2)})):
            out = tmp_path / f"{name}.tflite"
            fewbit.quantize(tmp_path / "m.tflite", samples, out=out)
            files.append(out.read_bytes())
        assert files[0] == files[1]
        before, after = (open_model(path).input_shapes()["x"] for path in (tmp_path / "m.tflite", out))
        assert before[0] == after[0] and before[1][1:] == after[1][1:]
        with pytest.raises(DataError, match="takes shape"):
            fewbit.quantize(tmp_path / "m.tflite", {"x": last[:, :3]}, out=tmp_path / "q.tflite")

    def test_weights_that_no_file_holds_are_named(self, tmp_path: Path) -> None:
        b = Builder()
        b.node("Conv", ["x", b.weight(32, 16, 3, 3)], "y")
        path = b.save(tmp_path / "m.onnx", {"x": (1, 16, 8, 8)}, ["y"])
        with pytest.raises(ModelError, match="files for litert-cpu hold no weights of codebook nf4"):
            fewbit.quantize(path, recipe="nf4", out=tmp_path / "q.tflite")
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_that_computes_something_else_is_an_error(
        self, convs: Path, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        litert = FORMATS["litert"]

        def spoilt(model: ir.Model, path: Path, details: Details) -> tuple[str, ...]:
            model = Hub(model).clone().model
            weights = [value for value in model.graph.initializers.values() if value.const_value.numpy().ndim == 4]
            for weight in weights:
                weight.const_value = ir.tensor(np.roll(weight.const_value.numpy(), 1, 0), name=weight.name)
            return litert.write(model, path, details)

        monkeypatch.setattr(formats, "FORMATS", {**FORMATS, "litert": replace(litert, write=spoilt)})
        with pytest.raises(VerificationError, match=r"where the plan means .* dB"):
            fewbit.quantize(convs, images, out=tmp_path / "q.tflite")
        assert not (tmp_path / "q.tflite").exists()


def test_samples_that_can_be_read_once_are_read_once_where_nothing_is_verified(convs: Path, images: np.ndarray) -> None:
    """An ONNX file keeps its open sizes: its writer looks at no sample."""
    samples = ({"x": x[None]} for x in images)
    result = fewbit.quantize(convs, samples, effort="fast", min_sqnr=0, verify=False)
    assert result.plan.calibration["samples"] == len(images)
