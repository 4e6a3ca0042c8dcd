"""Networks, in float and with quantizers around every operator, compute in ExecuTorch what ONNX Runtime simulates."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

from fewbit.errors import DataError, ModelError
from fewbit.formats.executorch.door import write_executorch
from fewbit.graph.load import load
from fewbit.runtimes.executorch_ops import executed_ops
from tests.formats.executorch.running import agreement, feed_of, nodes, written
from tests.formats.litert.write import nets
from tests.formats.litert.write.quantizing import quantized
from tests.graph.build import model, node

FLOAT, INTEGER = 100.0, 60.0
"""dB. Kernels and simulation round the same numbers: what is left are single ties."""


def mlp() -> onnx.ModelProto:
    """Dense layers with and without a bias, after a MatMul and in a Gemm."""
    random = np.random.default_rng(4)
    constants = {f"w{i}": random.normal(size=(24, 24)).astype(np.float32) / 5 for i in range(3)}
    constants |= {f"b{i}": random.normal(size=24).astype(np.float32) for i in range(2)}
    layers = [
        node("Gemm", ["x", "w0", "b0"], ["h0"], transB=1),
        node("Relu", ["h0"], ["r0"]),
        node("MatMul", ["r0", "w1"], ["h1"]),
        node("Add", ["h1", "b1"], ["a1"]),
        node("Clip", ["a1", "zero", "six"], ["r1"]),
        node("MatMul", ["r1", "w2"], ["y"]),
    ]
    constants |= {"zero": np.float32(0), "six": np.float32(6)}
    return model(layers, ["x:f[3,24]"], ["y:f[3,24]"], constants, opset=21, ir_version=10)


NETS = {"cnn": nets.cnn, "depthwise": nets.depthwise, "transformer": nets.transformer, "mlp": mlp}


@pytest.mark.parametrize("net", NETS)
def test_float(net: str) -> None:
    form = NETS[net]()
    data = written(form).data
    assert agreement(form, data, feed_of(form))["y"] >= FLOAT
    found = executed_ops(data)
    assert found.partitions == 1 and {op.where for op in found.ops} == {"XNNPACK"}
    assert not found.kernels.integer and not found.kernels.conversions


@pytest.mark.parametrize(
    ("net", "dtype"),
    [("cnn", "int8"), ("cnn", "uint8"), ("depthwise", "int8"), ("transformer", "int8"), ("mlp", "uint8")],
)
def test_integers(net: str, dtype: str) -> None:
    float_form = NETS[net]()
    feed = feed_of(float_form)
    form = quantized(float_form, feed, dtype=dtype)
    result = written(form)
    assert agreement(form, result.data, feed)["y"] >= INTEGER
    found = executed_ops(result.data)
    assert found.partitions == 1 and {op.where for op in found.ops} == {"XNNPACK"}
    products = {"cnn": 4, "depthwise": 11, "transformer": 6, "mlp": 3}[net]
    counts = nodes(result.data)
    assert sum(counts[f"{op} int8 · int8"] for op in ("Conv2d", "DepthwiseConv2d", "FullyConnected")) == products
    assert found.kernels.float_heavy == ({"MatMul": 2} if net == "transformer" else {})
    assert not result.notes


def test_integers_beside_float() -> None:
    """Attention and its residual stay float: each product is computed as its own quantizers say."""
    float_form = nets.transformer(gelu=False)
    feed = feed_of(float_form)
    form = quantized(float_form, feed, skip=("Softmax", "Add"))
    result = written(form)
    assert agreement(form, result.data, feed)["y"] >= 40.0
    counts = nodes(result.data)
    assert counts["FullyConnected int8 · int8"] and counts["FullyConnected float32 · float32"]
    assert any("its output is not quantized" in note for note in result.notes)


def test_a_weight_that_one_of_its_readers_needs_in_float() -> None:
    """And Clips of all kinds: XNNPACK's partitioner fuses some into a convolution, and others leave it in float."""
    random = np.random.default_rng(0)
    clips = {
        "relu": ["zero"],
        "open": ["low"],
        "infinite": ["zero", "most"],
        "below": ["", "low"],
        "both": ["low", "six"],
    }
    nodes_ = []
    for name, bounds in clips.items():
        nodes_ += [node("Conv", ["x", "w"], [f"c_{name}"]), node("Clip", [f"c_{name}", *bounds], [name])]
    constants = {"zero": 0.0, "low": -1.0, "six": 6.0, "most": np.inf}
    arrays = {"w": random.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    arrays |= {name: np.float32(number) for name, number in constants.items()}
    float_form = model(nodes_, ["x:f[1,3,8,8]"], [f"{n}:f" for n in clips], arrays, opset=20, ir_version=10)
    feed = feed_of(float_form)
    form = quantized(float_form, feed)
    result = written(form)
    assert min(agreement(form, result.data, feed).values()) >= INTEGER
    counts = nodes(result.data)
    assert counts["Conv2d int8 · int8"] == 3 and counts["Conv2d float32 · float32"] == 2
    assert len(result.notes) == 2


def test_numbers_of_sixteen_bits_are_computed_in_float() -> None:
    float_form = mlp()
    feed = feed_of(float_form)
    form = quantized(float_form, feed, dtype="int16")
    assert agreement(form, written(form).data, feed)["y"] >= INTEGER


def test_halves() -> None:
    random = np.random.default_rng(0)
    half = onnx.TensorProto.FLOAT16
    constants = [
        onnx.numpy_helper.from_array(random.normal(size=s).astype(np.float16), n) for n, s in (("w", (8, 8)), ("b", 8))
    ]
    ends = [[onnx.helper.make_tensor_value_info(name, half, [2, 8])] for name in ("x", "y")]
    graph = onnx.helper.make_graph([node("Gemm", ["x", "w", "b"], ["y"])], "g", *ends, constants)
    form = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    feed = {"x": random.normal(size=(2, 8)).astype(np.float16)}
    data = written(form).data
    assert agreement(form, data, feed)["y"] >= 50.0
    assert nodes(data) == {"FullyConnected float16 · float16": 1}


def test_ends_of_integers() -> None:
    """A model whose input and output are the uint8 themselves."""
    form = quantized(mlp(), feed_of(mlp()), dtype="uint8")
    first, last = form.graph.node[0], form.graph.node[-1]
    assert (first.op_type, last.op_type) == ("QuantizeLinear", "DequantizeLinear")
    names = first.output[0], last.input[0]
    form.graph.node.remove(first)
    form.graph.node.remove(last)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [3, 24]) for name in names]
    for end, made in zip((form.graph.input, form.graph.output), ends, strict=True):
        del end[:]
        end.append(made)
    feed = {names[0]: np.random.default_rng(0).integers(0, 256, (3, 24)).astype(np.uint8)}
    data = written(form).data
    assert agreement(form, data, feed)[names[1]] >= INTEGER
    assert nodes(data)["FullyConnected int8 · int8"] == 3


def test_open_sizes_are_given() -> None:
    form = model([node("MatMul", ["x", "w"], ["y"])], ["x:f[N,T,4]"], ["y:f"], {"w": np.ones((4, 2), np.float32)})
    with pytest.raises(DataError, match=r"input 'x' has the open shape .*shapes="):
        write_executorch(load(form))
    data = written(form, shapes={"x": (2, 3, 4)}).data
    assert agreement(form, data, {"x": np.ones((2, 3, 4), np.float32)})["y"] >= FLOAT


def test_the_same_model_gives_the_same_bytes() -> None:
    form = quantized(mlp(), feed_of(mlp()))
    before = form.SerializeToString()
    assert written(form).data == written(form).data
    assert form.SerializeToString() == before


def test_what_cannot_be_lowered_is_an_error() -> None:
    form = model([node("TopK", ["x", "k"], ["y", "i"])], ["x:f[2,5]"], ["y:f", "i:i"], {"k": np.array([2])})
    with pytest.raises(ModelError, match=r"ExecuTorch cannot lower the model: .*sort") as caught:
        written(form)
    assert "\n" not in str(caught.value)
    form = model([node("Strange", ["x"], ["y"], domain="other")], ["x:f[2]"], ["y:f"], domains=["other"])
    with pytest.raises(ModelError, match="Strange"):
        written(form)
