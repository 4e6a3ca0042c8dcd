"""How much noise each layer brings alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewbit.errors import ModelError, RecipeError
from fewbit.flow.sensitivity import SensitivityResult, sensitivity
from fewbit.report.sensitivity import advice, watched
from tests.models import Builder


@pytest.fixture(scope="module")
def found() -> SensitivityResult:
    from fewbit import demo

    return sensitivity(demo.MODEL, demo.CALIBRATION)


def test_the_demo_network(found: SensitivityResult) -> None:
    """All of its layers, the loudest first, with what they take: a 3x3 convolution of 48 channels has 48 * 48 * 9 float32."""
    assert [r.recipe for r in found.recipes] == ["fp16", "int8-weights", "int4-weights", "int8"]
    assert len(found.layers) == 8 and found.samples == 8
    worst = [max(f.noise for f in layer.noise.formats.values()) for layer in found.layers]
    assert worst == sorted(worst, reverse=True)
    by_name = {layer.noise.name: layer for layer in found.layers}
    conv = by_name["conv1"]
    assert conv.op == "Conv" and conv.shape == (48, 48, 3, 3) and conv.float_bytes == 82944
    half = conv.noise.formats["fp16"]
    assert (half.bytes, half.dtype, half.bits) == (41472, "float16", 16)
    assert conv.noise.formats["int4-weights"].bits == 4
    assert sum(layer.work for layer in found.layers) == pytest.approx(1.0)


def test_fewer_bits_are_louder_and_smaller(found: SensitivityResult) -> None:
    for layer in found.layers:
        formats = [layer.noise.formats[n] for n in ("fp16", "int8-weights", "int4-weights") if n in layer.noise.formats]
        assert [f.noise for f in formats] == sorted(f.noise for f in formats)
        assert [f.bytes for f in formats] == sorted((f.bytes for f in formats), reverse=True)


def test_what_all_layers_bring_is_foretold_to_ten_decibels(found: SensitivityResult) -> None:
    """The sum is of noises that are rounded to the nearest; the whole plan is what the runtime computes."""
    for uniform in found.recipes:
        assert uniform.measured is not None and abs(uniform.measured - uniform.expected) < 10.0
        assert uniform.layers == sum(uniform.recipe in layer.noise.formats for layer in found.layers)
    assert found.additivity is not None and found.additivity.rank > 0.5


def test_advice_widens_to_eight_bits_where_there_are_fewer(found: SensitivityResult) -> None:
    told = {a.recipe: a for a in found.advice}
    assert "fp16" not in told
    assert told["int4-weights"].to == "int8-weights" and told["int8"].to is None
    for a in told.values():
        assert a.after - a.before >= 1.0
    text = advice(told["int8"].to_dict())
    assert text.startswith("in int8 keep ") and "in float (--exclude)" in text and "dB expected" in text


def test_one_loud_layer_is_named(tmp_path: Path) -> None:
    """The outputs of the second layer are what counts, and one of its inputs has weights a thousand times as large, so that in
    groups of 32 the others are lost; the first and third layers are of one scale."""
    build = Builder()
    first = build.node("MatMul", ["x", build.weight(32, 32)], "a")
    loud = build.random.standard_normal((32, 32)).astype(np.float32) * 0.1
    loud[3] *= 1000.0
    second = build.node("MatMul", [first, build.constant(loud)], "b")
    build.node("MatMul", [second, build.weight(32, 32)], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    x = build.random.standard_normal((16, 32)).astype(np.float32)
    x[:, :] *= np.linalg.norm(x, axis=1, keepdims=True)
    found = sensitivity(path, {"x": x}, ["int4-weights", "int8-weights"])
    data = found.to_dict()
    assert watched(data["layers"], "int4-weights").startswith(data["layers"][0]["name"])
    assert data["layers"][0]["formats"]["int4-weights"]["bytes_saved"] > 3000  # of 4096 bytes


def test_values_beyond_float16_leave_nothing(tmp_path: Path) -> None:
    build = Builder()
    weight = build.random.standard_normal((64, 32)).astype(np.float32)
    weight[0, 0] = 1e6
    build.node("MatMul", ["x", build.constant(weight)], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"])
    data = sensitivity(path, {"x": np.ones((2, 64), np.float32)}, ["fp16"]).to_dict()
    assert data["layers"][0]["formats"]["fp16"]["noise"] is None and data["recipes"][0]["expected_db"] is None
    assert watched(data["layers"], "fp16") == f"{data['layers'][0]['name']} (values beyond what the format holds)"
    json.dumps(data, allow_nan=False)


def test_layers_that_share_a_weight_are_one(tmp_path: Path) -> None:
    build = Builder()
    weight = build.weight(32, 32)
    hidden = build.node("Relu", [build.node("MatMul", ["x", weight])])
    build.node("MatMul", [hidden, weight], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    found = sensitivity(path, {"x": build.random.standard_normal((4, 32)).astype(np.float32)}, ["int8-weights"])
    (layer,) = found.layers
    assert len(layer.noise.nodes) == 2 and layer.work == pytest.approx(1.0)
    assert found.additivity is None  # of one layer no mixtures can be made


def test_one_format_has_no_mixtures_and_the_same_figures_again(digits: Path, samples: Path) -> None:
    one, again = (sensitivity(digits, samples, ["fp16"], samples=2).to_dict() for _ in range(2))
    assert one["additivity"] is None and one["samples"] == 2
    assert one == again


def test_a_target_of_integers_alone(digits: Path, samples: Path) -> None:
    found = sensitivity(digits, samples, target="litert-micro", samples=1)
    assert [r.recipe for r in found.recipes] == ["int8"] and found.advice == []
    assert any("litert-micro has no float to return layers to" in note for note in found.notes)


@pytest.mark.parametrize("target", ["ort-cpu", "litert-cpu", "executorch-xnnpack"])
def test_layers_that_are_quantized_as_they_run_have_noise(target: str, tmp_path: Path) -> None:
    build = Builder()
    hidden = build.node("Relu", [build.node("MatMul", ["x", build.weight(32, 64)])])
    build.node("MatMul", [hidden, build.weight(64, 8)], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    x = build.random.standard_normal((8, 32)).astype(np.float32)
    found = sensitivity(path, {"x": x}, ["int8-dynamic"], target)
    assert not any("holds no weight" in note for note in found.notes)
    assert all(30.0 < layer.noise.formats["int8-dynamic"].sqnr < 60.0 for layer in found.layers)
    (whole,) = found.recipes
    assert whole.layers == 2 and whole.measured == pytest.approx(whole.expected, abs=3.0)


def test_a_format_that_the_target_has_not_is_told(digits: Path, samples: Path) -> None:
    found = sensitivity(digits, samples, ["fp16", "int8"], "executorch-xnnpack", samples=1)
    assert [r.recipe for r in found.recipes] == ["int8"]
    assert "fp16: executorch-xnnpack holds no weight of this model so" in found.notes


def test_refused(digits: Path, samples: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="recipe 'int9' does not exist"):
        sensitivity(digits, samples, ["int9"])
    with pytest.raises(RecipeError, match="at least 1, given 0"):
        sensitivity(digits, samples, samples=0)
    (tmp_path / "r.yaml").write_text("base: int8-weights\nrewrites: [rotate]\n")
    with pytest.raises(RecipeError, match=r"rewrites the graph \(rotate\)"):
        sensitivity(digits, samples, [str(tmp_path / "r.yaml")])
    with pytest.raises(RecipeError, match="sensitivity needs samples"):
        sensitivity(digits, None)
    build = Builder()
    build.node("Relu", ["x"], "y")
    bare = build.save(tmp_path / "m.onnx", {"x": ("N", 4)}, ["y"])
    with pytest.raises(ModelError, match="no layer has a weight that fp16 or int8-weights"):
        sensitivity(bare, {"x": np.ones((2, 4), np.float32)})
