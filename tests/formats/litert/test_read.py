"""What comes in with a graph: names, shapes, layouts, signatures; and what does not come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from flatbuffers import flexbuffers

import fewbit
from fewbit.errors import ModelError, RecipeError
from fewbit.flow.opening import import_notes
from fewbit.formats.litert.kinds import is_litert
from fewbit.formats.litert.read.door import read_litert
from fewbit.graph.load import load
from tests.formats.litert.build import Tflite, run_hub, run_litert

IMAGE = (1, 6, 8, 4)


def network() -> Tflite:
    """A small detector's worth: convolutions, a branch, a concatenation, a pool, a mean and a dense layer."""
    t = Tflite()
    strides = {"strideW": 1, "strideH": 1}
    x = t.op(
        "CONV_2D", [t.input(IMAGE, name="image"), t.weight(4, 3, 3, 4), t.weight(4)], IMAGE, "Conv2DOptions", **strides
    )
    y = t.op("LOGISTIC", [x], IMAGE)
    x = t.op("MUL", [x, y], IMAGE, "MulOptions")
    x = t.op("ADD", [x, t.weight(4)], IMAGE, "AddOptions", fusedActivationFunction=3)
    x = t.op("CONCATENATION", [x, y], (1, 6, 8, 8), "ConcatenationOptions", axis=3)
    x = t.op("PAD", [x, t.constant([[0, 0], [1, 1], [1, 1], [0, 0]])], (1, 8, 10, 8))
    x = t.op("MAX_POOL_2D", [x], (1, 4, 5, 8), "Pool2DOptions", filterHeight=2, filterWidth=2, strideH=2, strideW=2)
    x = t.op("SOFTMAX", [x], (1, 4, 5, 8), "SoftmaxOptions", beta=1.0)
    x = t.op("MEAN", [x, t.constant([1, 2])], (1, 8), "ReducerOptions")
    x = t.op(
        "FULLY_CONNECTED", [x, t.weight(3, 8), t.weight(3)], t.tensor((1, 3), name="scores"), "FullyConnectedOptions"
    )
    t.outputs(x)
    return t


def test_one_transpose_where_the_file_meets_the_hub() -> None:
    data = network().data()
    model = read_litert(data).model
    assert [node.op_type for node in model.graph].count("Transpose") == 1
    feed = [np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)]
    np.testing.assert_allclose(run_hub(model, feed)[0], run_litert(data, feed)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run_hub(model, feed)[0], run_litert(data, feed, xnnpack=True)[0], rtol=1e-5, atol=1e-6)


def test_one_axis_of_images_stays_channels_first() -> None:
    """Convolutions along time, as converters spell them: an axis is added before each and dropped after it."""
    t = Tflite()
    x = t.input((1, 9, 4))
    for _ in range(2):
        x = t.op("EXPAND_DIMS", [x, t.constant(1)], (1, 1, 9, 4))
        x = t.op("CONV_2D", [x, t.weight(4, 1, 3, 4), t.weight(4)], (1, 1, 9, 4), "Conv2DOptions", strideW=1, strideH=1)
        x = t.op("SQUEEZE", [x], (1, 9, 4), "SqueezeOptions", squeezeDims=[1])
        x = t.op("ADD", [x, t.weight(4)], (1, 9, 4), "AddOptions", fusedActivationFunction=1)
    data = t.data()
    model = read_litert(data).model
    assert [node.op_type for node in model.graph].count("Transpose") == 2
    feed = [np.random.default_rng(0).standard_normal((1, 9, 4)).astype(np.float32)]
    np.testing.assert_allclose(run_hub(model, feed)[0], run_litert(data, feed)[0], rtol=1e-5, atol=1e-5)


def test_a_row_of_pixels_has_its_channels_last() -> None:
    """What follows works along the last axis, as in a transformer: it would be renumbered for nothing."""
    t = Tflite()
    x = t.op(
        "CONV_2D", [t.input(IMAGE), t.weight(4, 1, 1, 4), t.weight(4)], IMAGE, "Conv2DOptions", strideW=1, strideH=1
    )
    x = t.op("RESHAPE", [x, t.constant([1, 48, 4])], (1, 48, 4), "ReshapeOptions")
    t.op("SOFTMAX", [x], (1, 48, 4), "SoftmaxOptions", beta=1.0)
    assert [node.op_type for node in read_litert(t.data()).model.graph] == [
        *("Transpose", "Conv", "Transpose", "Reshape", "Softmax")
    ]


def test_names_of_the_file() -> None:
    model = read_litert(network().data()).model
    assert [v.name for v in model.graph.inputs] == ["image"]
    assert [v.name for v in model.graph.outputs] == ["scores"]
    values = [v.name for node in model.graph for v in node.outputs]
    assert len(values) == len(set(values))
    assert {"tensor3", "tensor4"} <= set(values)  # of the convolution and the sigmoid
    assert next(node for node in model.graph if node.op_type == "Conv").name == "tensor3"


def test_equal_and_empty_names() -> None:
    t = Tflite()
    x = t.input((2, 3), name="x")
    t.outputs(t.op("ABS", [t.op("NEG", [x], t.tensor((2, 3), name="x"))], t.tensor((2, 3), name="x")))
    t.graph.tensors[1].name = b""
    model = read_litert(t.data()).model
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == ["x", "x_1"]
    assert run_hub(model, [np.array([[-1, 2, -3], [4, 5, -6]], np.float32)])[0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_outputs_that_are_inputs_constants_or_there_twice() -> None:
    t = Tflite()
    x, c = t.input(IMAGE, name="x"), t.weight(2)
    y = t.op("CONV_2D", [x, t.weight(4, 1, 1, 4), t.weight(4)], IMAGE, "Conv2DOptions", strideW=1, strideH=1)
    z = t.op("RELU", [y], IMAGE)
    t.outputs(x, c, y, z, y)
    data = t.data()
    feed = [np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)]
    model = read_litert(data).model
    assert len({v.name for v in model.graph.outputs}) == 5
    for form in (model, load(model).model):
        got = run_hub(form, feed)
        for one, two in zip(got[:4], run_litert(data, feed)[:4], strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(got[2], got[4])


def test_open_sizes_are_named_and_take_any() -> None:
    t = Tflite()
    x = t.input((1, 6, 8, 4), name="x", signature=(-1, 6, 8, 4))
    y = t.tensor((1, 6, 8, 5), signature=(-1, 6, 8, 5))
    t.op("CONV_2D", [x, t.weight(5, 3, 3, 4), t.weight(5)], y, "Conv2DOptions", strideW=1, strideH=1)
    data = t.data()
    model = read_litert(data).model
    assert [str(v.shape) for v in (*model.graph.inputs, *model.graph.outputs)] == ["[batch,6,8,4]", "[batch,6,8,5]"]
    feed = [np.random.default_rng(0).standard_normal((3, 6, 8, 4)).astype(np.float32)]
    np.testing.assert_allclose(run_hub(model, feed)[0], run_litert(data, feed)[0], rtol=1e-5, atol=1e-5)


def test_an_open_batch_all_the_way() -> None:
    t = Tflite()
    x = t.input((1, 6, 8, 4), name="x", signature=(-1, 6, 8, 4))
    for name, size in (
        ("RESIZE_BILINEAR", (9, 9)),
        ("RESIZE_NEAREST_NEIGHBOR", (7, 5)),
        ("RESIZE_NEAREST_NEIGHBOR", (14, 10)),
    ):
        kind = "ResizeBilinearOptions" if name == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
        x = t.op(name, [x, t.constant(list(size))], t.tensor((1, *size, 4), signature=(-1, *size, 4)), kind)
    x = t.op("RESHAPE", [x, t.constant([-1, 140, 4])], t.tensor((1, 140, 4), signature=(-1, 140, 4)), "ReshapeOptions")
    x = t.op("MEAN", [x, t.constant([1])], t.tensor((1, 4), signature=(-1, 4)), "ReducerOptions")
    t.op("FULLY_CONNECTED", [x, t.weight(3, 4)], t.tensor((1, 3), signature=(-1, 3)), "FullyConnectedOptions")
    data = t.data()
    feed = [np.random.default_rng(0).standard_normal((3, 6, 8, 4)).astype(np.float32)]
    model = read_litert(data).model
    for form in (model, load(model).model):
        np.testing.assert_allclose(run_hub(form, feed)[0], run_litert(data, feed)[0], rtol=1e-5, atol=1e-5)


def test_open_sizes_of_images() -> None:
    """The padding of SAME depends on them."""
    t = Tflite()
    x = t.input((1, 6, 8, 4), name="x", signature=(1, -1, -1, 4))
    y = t.tensor((1, 3, 4, 5), signature=(1, -1, -1, 5))
    t.op("CONV_2D", [x, t.weight(5, 3, 3, 4), t.weight(5)], y, "Conv2DOptions", strideW=2, strideH=2)
    data = t.data()
    for size in ((7, 9), (6, 8)):
        feed = [np.random.default_rng(0).standard_normal((1, *size, 4)).astype(np.float32)]
        np.testing.assert_allclose(
            run_hub(read_litert(data).model, feed)[0], run_litert(data, feed)[0], rtol=1e-5, atol=1e-5
        )


def test_gaps_are_recognized() -> None:
    t = Tflite()
    block, pads, crops = t.constant([2, 2]), t.constant([[2, 2], [2, 2]]), t.constant([[0, 0], [0, 0]])
    x = t.op("SPACE_TO_BATCH_ND", [t.input(IMAGE), block, pads], (4, 5, 6, 4))
    x = t.op(
        "CONV_2D",
        [x, t.weight(5, 3, 3, 4), t.weight(5)],
        (4, 3, 4, 5),
        "Conv2DOptions",
        strideH=1,
        strideW=1,
        padding=1,
    )
    t.op("BATCH_TO_SPACE_ND", [x, block, crops], (1, 6, 8, 5))
    model = read_litert(t.data()).model
    assert [node.op_type for node in model.graph] == ["Transpose", "Conv", "Transpose"]
    assert list(next(node for node in model.graph if node.op_type == "Conv").attributes["dilations"].as_ints()) == [
        2,
        2,
    ]


def test_fused_tanh_is_that_of_the_schema() -> None:
    """LiteRT's kernels leave it out, and no converter writes it."""
    t = Tflite()
    t.op("ADD", [t.input((2, 3)), t.weight(3)], (2, 3), "AddOptions", fusedActivationFunction=4)
    assert [node.op_type for node in read_litert(t.data()).model.graph] == ["Add", "Tanh"]


def several() -> bytes:
    """Two signatures of two subgraphs: x + 1, and x · 2."""
    t = Tflite()
    t.outputs(t.op("ADD", [t.input((3,), name="a"), t.constant(np.ones(3, np.float32))], (3,), "AddOptions"))
    first = t.graph
    other = t.api.SubGraphT()
    other.tensors, other.inputs, other.outputs, other.operators, other.name = [], [], [], [], b"second"
    t.graph = other
    t.model.subgraphs.append(other)
    t.outputs(t.op("MUL", [t.input((3,), name="b"), t.constant(np.full(3, 2, np.float32))], (3,), "MulOptions"))
    t.model.signatureDefs = []
    for index, (key, graph, name) in enumerate((("encode", first, "text"), ("decode", other, "tokens"))):
        made = t.api.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key.encode(), index
        for kind, tensors, called in (("inputs", graph.inputs, name), ("outputs", graph.outputs, "scores")):
            entry = t.api.TensorMapT()
            entry.name, entry.tensorIndex = called.encode(), tensors[0]
            setattr(made, kind, [entry])
        t.model.signatureDefs.append(made)
    return t.data()


def test_signatures() -> None:
    first = read_litert(several())
    assert first.notes == ("signature 'encode' is imported; signature= chooses another: decode",)
    assert [v.name for v in (*first.model.graph.inputs, *first.model.graph.outputs)] == ["text", "scores"]
    x = np.array([1, 2, 3], np.float32)
    assert run_hub(first.model, {"text": x})[0].tolist() == [2, 3, 4]
    second = read_litert(several(), signature="decode")
    assert second.notes == ()
    assert run_hub(second.model, {"tokens": x})[0].tolist() == [2, 4, 6]
    by_subgraph = read_litert(several(), signature="second")
    assert run_hub(by_subgraph.model, {"b": x})[0].tolist() == [2, 4, 6]
    with pytest.raises(RecipeError, match=r"no signature or subgraph 'x'; it has 'encode', 'decode', 'main', 'second'"):
        read_litert(several(), signature="x")


def test_commands_and_load_tell_by_the_content(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(several())
    assert is_litert(path) and is_litert(str(path)) and not is_litert(tmp_path) and not is_litert(object())
    hub = fewbit.load(path, signature="decode")
    assert [i.name for i in hub.inputs] == ["tokens"] and import_notes(hub) == []
    assert "signature 'encode' is imported" in import_notes(fewbit.load(path))[0]
    assert fewbit.inspect(path).ops == {"Add": 1}
    with pytest.raises(RecipeError, match=r"^factory: only for PyTorch models, and .*model.bin is none; leave it out$"):
        fewbit.load(path, factory="x.py:y")
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(ir.to_proto(hub.model).SerializeToString())
    with pytest.raises(
        RecipeError, match=r"^signature: only for LiteRT models, and .*model.onnx is none; leave it out$"
    ):
        fewbit.load(onnx, signature="x")


def test_quantizing_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(network().data())
    samples = [{"image": np.random.default_rng(i).standard_normal(IMAGE).astype(np.float32)} for i in range(8)]
    result = fewbit.quantize(path, samples, out=tmp_path / "small.onnx", min_sqnr=0)
    assert (tmp_path / "small.onnx").is_file()
    assert result.plan.edges() and [v.name for v in result.model.graph.outputs] == ["scores"]


REFUSED = {
    "CUSTOM": r"operator 0 \(CUSTOM 'TFLite_Detection_PostProcess', which makes 'boxes'\) is no builtin operator: cut",
    "VAR_HANDLE": r"operator 0 \(VAR_HANDLE, which makes 'boxes'\) keeps numbers from run to run, and a hub has no state",
    "WHILE": r"operator 0 \(WHILE, which makes 'boxes'\) runs other subgraphs",
    "STABLEHLO_ADD": r"operator 0 \(STABLEHLO_ADD, which makes 'boxes'\) is of StableHLO",
    "SVDF": r"operator 0 \(SVDF, which makes 'boxes'\) keeps a state",
    "UNIQUE": r"operator 0 \(UNIQUE, which makes 'boxes'\) has no counterpart",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_come_in_says_why(name: str) -> None:
    t = Tflite()
    t.op(
        name,
        [t.input((2, 3))],
        t.tensor((2, 3), name="boxes"),
        custom="TFLite_Detection_PostProcess" if name == "CUSTOM" else None,
    )
    with pytest.raises(ModelError, match=REFUSED[name]) as caught:
        read_litert(t.data())
    assert "\n" not in str(caught.value)


def test_a_missing_package_yields_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def without(name: str) -> object:
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(name="ai_edge_litert")
        return real(name)

    monkeypatch.setattr("fewbit.extras.import_module", without)
    with pytest.raises(ModelError.__mro__[1], match=r"pip install 'fewbit\[litert\]'"):
        read_litert(b"\x1c\0\0\0TFL3" + bytes(100))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its bytes 4 to 8 are not TFL3"):
        read_litert(b"not a model")
    with pytest.raises(ModelError, match=r"missing\.tflite does not exist"):
        read_litert(tmp_path / "missing.tflite")


def test_the_state_of_a_recurrent_layer_is_told() -> None:
    from tests.formats.litert.cases import CASES

    t = Tflite()
    CASES["UNIDIRECTIONAL_SEQUENCE_LSTM"].make(t)
    assert "every run begins with zeros" in read_litert(t.data()).notes[0]


def composed(*, passes_on: bool = False) -> Tflite:
    """x² + 1, doubled, where x² + 1 is a function of its own, used twice."""
    t = Tflite()
    main = t.graph
    inner = t.api.SubGraphT()
    inner.tensors, inner.inputs, inner.outputs, inner.operators, inner.name = [], [], [], [], b"body"
    t.graph = inner
    x = t.input((2, 3), name="x")
    out = t.op("ADD", [t.op("SQUARE", [x], (2, 3)), t.constant(np.ones(3, np.float32))], (2, 3), "AddOptions")
    t.outputs(x if passes_on else out)
    t.graph = main
    t.model.subgraphs.append(inner)
    value = t.input((2, 3), name="x")
    for _ in range(2):
        value = t.op("STABLEHLO_COMPOSITE", [value], (2, 3))
        made = main.operators[-1]
        made.builtinOptions2Type = t.api.BuiltinOptions2.StableHLOCompositeOptions
        made.builtinOptions2 = t.api.StableHLOCompositeOptionsT()
        made.builtinOptions2.compositeAttributes = np.frombuffer(flexbuffers.Dumps({}), np.uint8)
        made.builtinOptions2.name, made.builtinOptions2.decompositionSubgraphIndex = b"test.body", 1
    t.outputs(t.op("ADD", [value, value], t.tensor((2, 3), name="y"), "AddOptions"))
    return t


@pytest.mark.parametrize("passes_on", [False, True])
def test_composites_are_what_they_are_made_of(passes_on: bool) -> None:
    data = composed(passes_on=passes_on).data()
    feed = [np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)]
    model = read_litert(data).model
    assert [v.name for v in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(run_hub(model, feed)[0], run_litert(data, feed)[0], rtol=1e-6)
    once = feed[0] if passes_on else feed[0] ** 2 + 1
    np.testing.assert_allclose(run_hub(model, feed)[0], 2 * (once if passes_on else once**2 + 1), rtol=1e-6)


def test_a_composite_that_is_part_of_itself() -> None:
    t = composed()
    t.graph.operators[0].builtinOptions2.decompositionSubgraphIndex = 0
    with pytest.raises(ModelError, match=r"composites in composites|more than 32768 operators"):
        read_litert(t.data())


def test_subgraphs_without_signatures_are_told() -> None:
    t = composed()
    assert read_litert(t.data()).notes == ()
    spare = t.api.SubGraphT()
    spare.name = b"spare"
    t.model.subgraphs.append(spare)
    assert read_litert(t.data()).notes == (
        "the first subgraph is imported; signature= chooses another by its name: spare",
    )
