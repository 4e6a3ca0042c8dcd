"""Files for microcontrollers: integers alone, with integers at their ends, or a reason why not."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import fewbit
from fewbit.errors import InputError, ModelError, PlanError, RecipeError, VerificationError
from fewbit.flow import verification
from fewbit.flow.formats import FORMATS, Details
from fewbit.flow.quantize import QuantizeResult
from fewbit.formats.litert.read.metadata import litert_metadata
from fewbit.runtimes.litert import open_session
from fewbit.runtimes.litert_file import read_graphs
from fewbit.runtimes.litert_ops import float_ops
from fewbit.spec import INT8
from fewbit.targets import TARGETS, OpRule
from tests.models import Builder, attention, conv_relu_conv
from tests.tflite import conv_net, images

TARGET = "litert-micro"
Body = Callable[[Builder, str], str | list[str]]


def samples(count: int = 16) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def conv(b: Builder, source: str, inputs: int, outputs: int, size: int = 3) -> str:
    weights = [b.weight(outputs, inputs, size, size), b.weight(outputs)]
    return b.node("Conv", [source, *weights], pads=[size // 2] * 4)


def ints(b: Builder, *values: int) -> str:
    return b.constant(np.array(values, np.int64))


def number(b: Builder, value: Any) -> str:
    return b.constant(np.asarray(value, np.float32))


def pooled(b: Builder, source: str) -> str:
    return b.node("Flatten", [b.node("GlobalAveragePool", [source])])


def matrix(b: Builder, source: str) -> str:
    return b.node("Reshape", [source, ints(b, 1, 8, 64)])


def network(path: Path, body: Body) -> Path:
    """x (1, 3, 8, 8) → a convolution of 8 channels → what the body makes of it."""
    b = Builder()
    made = body(b, conv(b, "x", 3, 8))
    return b.save(path, {"x": (1, 3, 8, 8)}, [made] if isinstance(made, str) else made)


def quantize(folder: Path, body: Body, recipe: str = "int8", **options: Any) -> tuple[QuantizeResult, list[str]]:
    """What became of a network, and the operators of its file without those that turn axes."""
    model, out = network(folder / "m.onnx", body), folder / "q.tflite"
    result = fewbit.quantize(model, samples(), recipe, TARGET, out, effort="fast", **options)
    return result, [op.name for op in read_graphs(out)[0].ops if op.name != "TRANSPOSE"]


def ends(path: Path) -> list[str]:
    graph = read_graphs(path)[0]
    return [graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)]


CASES: dict[str, tuple[Body, Sequence[str]]] = {
    "Softmax": (lambda b, x: b.node("Softmax", [pooled(b, x)], axis=-1), ["MEAN", "RESHAPE", "SOFTMAX"]),
    "LogSoftmax": (lambda b, x: b.node("LogSoftmax", [pooled(b, x)], axis=-1), ["MEAN", "RESHAPE", "LOG_SOFTMAX"]),
    "Sigmoid": (lambda b, x: b.node("Sigmoid", [x]), ["LOGISTIC"]),
    "Tanh": (lambda b, x: b.node("Tanh", [x]), ["TANH"]),
    "HardSwish": (lambda b, x: b.node("HardSwish", [x]), ["HARD_SWISH"]),
    "SiLU": (lambda b, x: b.node("Mul", [x, b.node("Sigmoid", [x])]), ["LOGISTIC", "MUL"]),
    "LeakyRelu": (lambda b, x: b.node("LeakyRelu", [x], alpha=0.1), ["LEAKY_RELU"]),
    "Clip": (lambda b, x: b.node("Clip", [x, number(b, 0), number(b, 6)]), []),
    "Add": (lambda b, x: b.node("Add", [x, conv(b, x, 8, 8)]), ["CONV_2D", "ADD"]),
    "Sub": (lambda b, x: b.node("Sub", [x, conv(b, x, 8, 8)]), ["CONV_2D", "SUB"]),
    "Sub of a constant": (lambda b, x: b.node("Sub", [b.node("Relu", [x]), b.weight(1, 8, 1, 1)]), ["SUB"]),
    "MatMul": (
        lambda b, x: b.node("Add", [b.node("MatMul", [matrix(b, x), b.weight(64, 16)]), b.weight(16)]),
        ["RESHAPE", "FULLY_CONNECTED"],
    ),
    "MatMul of activations": (
        lambda b, x: b.node("MatMul", [matrix(b, x), b.node("Transpose", [matrix(b, x)], perm=[0, 2, 1])]),
        ["RESHAPE", "RESHAPE", "BATCH_MATMUL"],
    ),
    "ConvTranspose": (
        lambda b, x: b.node("ConvTranspose", [x, b.weight(8, 4, 2, 2), b.weight(4)], strides=[2, 2]),
        ["TRANSPOSE_CONV"],
    ),
    "Concat": (lambda b, x: b.node("Concat", [x, conv(b, "x", 3, 4)], axis=1), ["CONV_2D", "CONCATENATION"]),
    "MaxPool": (lambda b, x: b.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2]), ["MAX_POOL_2D"]),
    "AveragePool": (lambda b, x: b.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]), ["AVERAGE_POOL_2D"]),
    "ReduceMean": (lambda b, x: b.node("ReduceMean", [x], axes=[2, 3], keepdims=0), ["MEAN"]),
    "ReduceMax": (lambda b, x: b.node("ReduceMax", [x], axes=[2, 3], keepdims=0), ["REDUCE_MAX"]),
    "Pad": (lambda b, x: b.node("Pad", [x, ints(b, 0, 0, 1, 1, 0, 0, 1, 1)]), ["PAD"]),
    "Resize": (lambda b, x: b.node("Resize", [x, "", number(b, [1, 1, 2, 2])], mode="linear"), ["RESIZE_BILINEAR"]),
    "another scale at the end": (
        lambda b, x: b.node("Mul", [b.node("MaxPool", [x], kernel_shape=[2, 2]), number(b, 0.3)]),
        ["MAX_POOL_2D", "MUL"],
    ),
    "two outputs, one read inside": (lambda b, x: [x, b.node("Sigmoid", [x])], ["LOGISTIC"]),
    "the same output twice": (lambda b, x: [x, b.node("Identity", [x])], ["QUANTIZE"]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_operator_is_one_of_integers(name: str, tmp_path: Path) -> None:
    body, expected = CASES[name]
    result, ops = quantize(tmp_path, body)
    assert ops == ["CONV_2D", *expected]
    assert not float_ops(tmp_path / "q.tflite") and set(ends(tmp_path / "q.tflite")) == {"int8"}
    assert result.verification is not None
    assert min(output.sqnr for output in result.verification.outputs) > 30.0


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("LogSoftmax", "HardSwish", "ReduceMax", "Resize")])
def test_sixteen_bits(name: str, tmp_path: Path) -> None:
    result, _ = quantize(tmp_path, CASES[name][0], "a16w8")
    assert set(ends(tmp_path / "q.tflite")) == {"int16"}
    assert result.verification is not None
    assert min(output.sqnr for output in result.verification.outputs) > 38.0


@pytest.mark.parametrize("name", ["Sigmoid", "MatMul", "another scale at the end", "two outputs, one read inside"])
def test_real_numbers_at_the_ends_alone(name: str, tmp_path: Path) -> None:
    _, ops = quantize(tmp_path, CASES[name][0], io="float")
    body = [op for op in ops if op != "DEQUANTIZE"]
    assert body == ["QUANTIZE", "CONV_2D", *CASES[name][1]]
    assert set(ends(tmp_path / "q.tflite")) == {"float32"} and not float_ops(tmp_path / "q.tflite")


def test_an_input_that_is_first_multiplied(tmp_path: Path) -> None:
    """Its scale is that of the pixels, not of what the multiplication makes of them."""
    for io, first in (("int8", "MUL"), ("float", "QUANTIZE")):
        result, ops = quantize(
            tmp_path, lambda b, x: conv(b, b.node("Mul", ["x", number(b, 1 / 255)]), 3, 4), recipe="int8", io=io
        )
        assert ops[0] == first and result.verification is not None
        assert result.verification.outputs[0].sqnr > 40.0


def test_the_result_tells_memory_and_no_speed(tmp_path: Path) -> None:
    result, _ = quantize(tmp_path, CASES["Softmax"][0])
    assert result.verification is not None and result.verification.latency is None
    assert result.verification.arena == 8 * 8 * 3 + 8 * 8 * 8  # what the convolution reads and makes
    assert any(note.startswith(f"flash: {result.bytes} bytes") for note in result.notes)
    assert result.to_dict()["verification"]["arena_bytes"] == result.verification.arena


def test_probabilities_of_integers_are_judged_as_far_as_they_tell(tmp_path: Path) -> None:
    """Their logarithms are no scores: an eighth bit cannot tell 1e-3 from 1e-6."""
    model = network(tmp_path / "m.onnx", lambda b, x: b.node("Softmax", [b.node("Mul", [pooled(b, x), number(b, 9)])]))
    result = fewbit.quantize(model, samples(), "int8", TARGET)
    assert not any("outputs keep" in note for note in result.notes), result.notes


def test_what_cannot_be_integers_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"litert-micro computes with integers alone, and Exp 'Exp_1' \(.*\) cannot: "):
        quantize(tmp_path, lambda b, x: conv(b, b.node("Relu", [b.node("Exp", [x])]), 8, 4))
    with pytest.raises(ModelError, match="and LayerNormalization 'LayerNormalization_0'"):
        fewbit.quantize(attention(tmp_path / "a.onnx"), None, "int8", TARGET)
    b = Builder()
    b.node("LSTM", ["x", b.weight(1, 128, 32), b.weight(1, 128, 32)], "y", hidden_size=32)
    lstm = b.save(tmp_path / "l.onnx", {"x": (5, 1, 32)}, ["y"])
    with pytest.raises(ModelError, match=r"and LSTM 'LSTM_0' \(.*a recurrent state .*\) cannot: replace it"):
        fewbit.quantize(lstm, None, "int8", TARGET)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("fp16", "recipe fp16 leaves Conv 'Conv_0' .* in float, and litert-micro computes with integers alone"),
        ("int8-dynamic", "recipe int8-dynamic leaves Conv"),
        ("w4a8", "recipe w4a8 has int4 weights"),
        ("nf4", "recipe nf4 leaves Conv"),
    ],
)
def test_recipes_of_other_widths_are_refused(recipe: str, says: str, tmp_path: Path) -> None:
    path = conv_relu_conv(tmp_path / "m.onnx")
    with pytest.raises(RecipeError, match=says) as raised:
        fewbit.quantize(path, samples(), recipe, TARGET, tmp_path / "q.tflite")
    assert len(str(raised.value).splitlines()) == 1 and not (tmp_path / "q.tflite").exists()


def test_options_that_return_layers_to_float(tmp_path: Path) -> None:
    path = conv_relu_conv(tmp_path / "m.onnx")
    with pytest.raises(RecipeError, match="min-sqnr 30 returns layers to float, which litert-micro does not have"):
        fewbit.quantize(path, samples(), "int8", TARGET, min_sqnr=30)
    with pytest.raises(RecipeError, match=r"leaves Conv 'Conv_0' .* and 1 more in float"):
        fewbit.quantize(path, samples(), "int8", TARGET, exclude=["Conv"])
    plan = fewbit.quantize(path, samples(), "int8", TARGET).plan
    nodes = {name: replace(node, form="float") if node.op == "Relu" else node for name, node in plan.nodes.items()}
    with pytest.raises(PlanError, match="the plan for int8 leaves Relu 'Relu_1'"):
        fewbit.quantize(path, samples(), target=TARGET, plan=replace(plan, nodes=nodes))


def test_a_file_with_floats_is_found(tmp_path: Path) -> None:
    path, out = conv_relu_conv(tmp_path / "m.onnx"), tmp_path / "float.tflite"
    hub, target, litert = fewbit.load(path), TARGETS[TARGET], FORMATS["litert"]
    plan = fewbit.quantize(path, samples(), "int8", TARGET).plan
    litert.write(hub.clone().model, out, Details({"x": (1, 3, 8, 8)}))
    assert len(float_ops(out)) > 1
    with pytest.raises(
        VerificationError, match=r"operators on floats, .*CONV_2D .*litert-micro computes with integers"
    ):
        verification.verified(hub, plan, litert, hub.model, out, None, Details(), target)


class TestEnds:
    def test_of_other_litert_files(self, tmp_path: Path) -> None:
        path, out = conv_relu_conv(tmp_path / "m.onnx"), tmp_path / "q.tflite"
        outputs = {}
        for io, dtype in ((None, "float32"), ("float", "float32"), ("int8", "int8")):
            result = fewbit.quantize(path, samples(), out=out, io=io)
            assert ends(out) == [dtype, dtype] and not any("stays float32" in note for note in result.notes)
            outputs[io] = open_session(out).run(samples(1)[0])[0]
        assert np.array_equal(outputs["float"], outputs["int8"])

    def test_that_float_nodes_make_stay(self, tmp_path: Path) -> None:
        out = tmp_path / "q.tflite"
        path = network(tmp_path / "m.onnx", lambda b, x: b.node("Exp", [b.node("Relu", [x])], "y"))
        result = fewbit.quantize(path, samples(), out=out, io="int8")
        assert ends(out) == ["int8", "float32"]
        assert "output y stays float32: what makes it computes with floats" in result.notes

    def test_are_refused_for_onnx(self, tmp_path: Path) -> None:
        path = conv_relu_conv(tmp_path / "m.onnx")
        with pytest.raises(RecipeError, match="io int8 is for LiteRT files, whose tensors carry their scales"):
            fewbit.quantize(path, samples(), io="int8", format="onnx")
        with pytest.raises(RecipeError, match="io 'int4' does not exist; use float or int8"):
            fewbit.quantize(path, samples(), io="int4")
        assert fewbit.quantize(path, samples(), io="float", verify=False).plan.target == "ort-cpu"


def test_a_litert_model_comes_back_under_its_own_names(tmp_path: Path) -> None:
    out = tmp_path / "q.tflite"
    data = [{"x": image[None]} for image in images(16)]
    with zipfile.ZipFile(conv_net(tmp_path / "m.tflite"), "a") as archive:
        archive.writestr("labels.txt", "cat")
    fewbit.quantize(tmp_path / "m.tflite", data, "int8", TARGET, out)
    assert litert_metadata(out).files == {"labels.txt": b"cat"}
    session = open_session(out, kernels="reference", stored=True)
    assert (session.inputs, session.outputs) == (["x"], ["y"])
    assert session.run({"x": data[0]["x"]})[0].dtype == np.int8
    inner = [tensor.name for tensor in read_graphs(out)[0].tensors if tensor.name not in ("x", "y")]
    assert max(map(len, inner)) <= 2
    fewbit.quantize(tmp_path / "m.tflite", data, "int8", TARGET, out, keep_names=True)
    assert any(tensor.name.startswith("conv.weight") for tensor in read_graphs(out)[0].tensors)


def test_a_model_without_fixed_sizes_has_those_of_its_samples(tmp_path: Path) -> None:
    b, out = Builder(), tmp_path / "q.tflite"
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3), b.weight(8)], pads=[1, 1])])
    b.node("GlobalAveragePool", [hidden], "y")
    path = b.save(tmp_path / "m.onnx", {"x": ("N", 3, "T")}, ["y"])
    data = np.random.default_rng(0).standard_normal((8, 3, 20)).astype(np.float32)
    fewbit.quantize(path, data, "int8", TARGET, out)
    assert read_graphs(out)[0].tensors[read_graphs(out)[0].inputs[0]].shape == (1, 3, 20)
    with pytest.raises(InputError, match="give --data"):
        fewbit.quantize(path, None, "int8", TARGET, out)


def test_kernels_that_compute_something_else_are_found(tmp_path: Path) -> None:
    """LiteRT's reference kernel of an int8 SUM, which the target does not list for this reason."""
    target = TARGETS[TARGET]
    listed = replace(target, ops={**target.ops, "ReduceSum": OpRule(("integer",), (INT8,))})
    path = network(tmp_path / "m.onnx", lambda b, x: b.node("ReduceSum", [x, ints(b, 2, 3)], keepdims=0))
    with pytest.raises(VerificationError, match="kernels compute something else"):
        fewbit.quantize(path, samples(), "int8", listed, effort="fast")


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["mlperf_ic_resnet8", "mlperf_kws_dscnn", "mlperf_ad_autoencoder"])
def test_mlperf_tiny_is_no_larger_than_its_authors_files(zoo: ModuleType, name: str, tmp_path: Path) -> None:
    case = zoo.load(name)
    source, out = Path(case.folder) / "model_float.tflite", tmp_path / "q.tflite"
    (entry,) = fewbit.load(source).inputs
    arrays = [next(iter(feed.values())) for feed in case.calibration(128)]
    data = [{entry.name: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a} for a in arrays]
    result = fewbit.quantize(source, data, "int8", TARGET, out)
    reference = Path(case.folder) / "ref_int8.tflite"
    graphs = [read_graphs(path)[0] for path in (out, reference)]
    assert [op.name for op in graphs[0].ops] == [op.name for op in graphs[1].ops]
    assert out.stat().st_size <= reference.stat().st_size
    assert result.verification is not None and result.verification.outputs[0].sqnr > 25.0
