"""Integers with scales: what the hub holds of them, and that it computes what the interpreter does."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from fewbit.formats.litert.read.door import read_litert
from fewbit.graph.load import load
from tests.formats.litert.build import Tflite, run_hub, run_litert

RANDOM = np.random.default_rng(3)
IMAGE = (1, 6, 8, 4)


def integers(shape: tuple[int, ...], dtype: str = "int8") -> np.ndarray:
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max + 1, shape).astype(dtype)


def near(data: bytes, feed: list[np.ndarray], steps: int = 1) -> ir.Model:
    """Checks that every output is within some steps of its scale, with the graph as imported and as normalized."""
    model = read_litert(data).model
    wanted = run_litert(data, feed)
    for form in (model, load(model).model):
        for one, two in zip(run_hub(form, feed), wanted, strict=True):
            assert one.dtype == two.dtype and one.shape == two.shape
            assert np.abs(one.astype(np.int64) - two.astype(np.int64)).max() <= steps
    return model


def ops(model: ir.Model, op_type: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op_type]


def conv(t: Tflite, x: int, after: tuple[int, ...], name: str = "CONV_2D", *, scale: float = 0.05) -> int:
    """3x3 weights with a scale for each output channel, and a bias in the product of the scales."""
    depthwise = name == "DEPTHWISE_CONV_2D"
    shape = (1, 3, 3, 4) if depthwise else (after[3], 3, 3, 4)
    scales = np.linspace(0.002, 0.01, after[3], dtype=np.float32)
    weight = t.constant(RANDOM.integers(-127, 128, shape).astype(np.int8), scale=scales, axis=3 if depthwise else 0)
    bias = t.constant(RANDOM.integers(-500, 500, after[3]).astype(np.int32), scale=scales * np.float32(scale))
    out = t.tensor(after, "int8", scale=0.07, zero=-20)
    options = {"depthMultiplier": 1} if depthwise else {}
    kind = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
    return t.op(name, [x, weight, bias], out, kind, strideW=1, strideH=1, fusedActivationFunction=1, **options)


@pytest.mark.parametrize("name", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolution_by_channel(name: str) -> None:
    t = Tflite()
    conv(t, t.input(IMAGE, "int8", scale=0.05, zero=7), (1, 6, 8, 4), name)
    model = near(t.data(), [integers(IMAGE)])
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.INT8] * 2
    data, weight, bias = (v.producer() for v in ops(model, "Conv")[0].inputs)
    assert {node.op_type for node in (data, weight, bias)} == {"DequantizeLinear"}
    assert weight.attributes["axis"].as_int() == 0 and weight.inputs[0].dtype == ir.DataType.INT8
    assert weight.inputs[1].const_value.numpy().tolist() == np.linspace(0.002, 0.01, 4, dtype=np.float32).tolist()
    assert bias.inputs[0].dtype == ir.DataType.INT32
    assert data.inputs[2].const_value.numpy().item() == 7
    last = ops(model, "QuantizeLinear")[-1]
    assert (last.inputs[1].const_value.numpy().item(), last.inputs[2].const_value.numpy().item()) == (
        np.float32(0.07),
        -20,
    )


def test_integers_are_transposed_at_the_ends_alone() -> None:
    t = Tflite()
    x = conv(t, t.input(IMAGE, "int8", scale=0.05), IMAGE)
    y = conv(t, x, IMAGE, "DEPTHWISE_CONV_2D", scale=0.07)
    out = t.tensor(IMAGE, "int8", scale=0.1, zero=5)
    t.op("ADD", [x, y], out, "AddOptions")
    model = near(t.data(), [integers(IMAGE)], steps=2)
    assert [node.inputs[0].dtype or node.inputs[0].producer().op_type for node in ops(model, "Transpose")] == [
        ir.DataType.INT8,
        "QuantizeLinear",
    ]


def dense(t: Tflite, weight: int, scale: float, dtype: str, bias_dtype: str = "int32", zero: int = 0) -> None:
    x = t.input((3, 8), dtype, scale=0.03, zero=zero)
    bias = t.constant(RANDOM.integers(-900, 900, 5).astype(bias_dtype), scale=scale * np.float32(0.03))
    out = t.tensor((3, 5), dtype, scale=0.2 if dtype != "int16" else 0.001, zero=zero)
    version = {"int8": 4, "uint8": 1, "int16": 7}[dtype]
    t.op("FULLY_CONNECTED", [x, weight, bias], out, "FullyConnectedOptions", version=version)


def test_dense_int8() -> None:
    t = Tflite()
    dense(t, t.constant(integers((5, 8)), scale=0.01), 0.01, "int8", zero=-3)
    model = near(t.data(), [integers((3, 8))])
    assert ops(model, "Gemm")[0].attributes["transB"].as_int() == 1


def test_dense_uint8_with_a_zero_point_of_the_weights() -> None:
    t = Tflite()
    dense(t, t.constant(integers((5, 8), "uint8"), scale=0.01, zero=120), 0.01, "uint8", zero=130)
    near(t.data(), [integers((3, 8), "uint8")])


def test_dense_int16_with_an_int64_bias() -> None:
    t = Tflite()
    dense(t, t.constant(integers((5, 8)), scale=0.01), 0.01, "int16", "int64")
    data = t.data()
    feed = [integers((3, 8), "int16")]
    model = near(data, feed, steps=2)
    assert model.graph.opset_imports[""] == 21
    assert ops(model, "Gemm")[0].inputs[2].dtype == ir.DataType.FLOAT


def test_hybrid_weights_stay_integers() -> None:
    """The activations are float: the interpreter rounds them on the way, the hub does not."""
    t = Tflite()
    stored = integers((5, 8))
    t.op("FULLY_CONNECTED", [t.input((3, 8)), t.constant(stored, scale=0.01)], (3, 5), "FullyConnectedOptions")
    data, x = t.data(), RANDOM.standard_normal((3, 8)).astype(np.float32)
    model = read_litert(data).model
    got = run_hub(model, [x])[0]
    np.testing.assert_allclose(got, x @ (stored * np.float32(0.01)).T, rtol=1e-5, atol=1e-5)
    assert ops(model, "DequantizeLinear")[0].inputs[0].dtype == ir.DataType.INT8
    np.testing.assert_allclose(got, run_litert(data, [x])[0], atol=0.02 * np.abs(got).max())


def packed(numbers: np.ndarray) -> bytes:
    """Two 4-bit numbers a byte, the first in the low half."""
    flat = numbers.reshape(-1).astype(np.uint8) & 15
    return bytes(flat[0::2] | flat[1::2] << 4)


@pytest.mark.parametrize("by_channel", [False, True])
def test_four_bit_weights(by_channel: bool) -> None:
    t = Tflite()
    numbers = RANDOM.integers(-8, 8, (5, 8))
    scales = np.linspace(0.05, 0.1, 5, dtype=np.float32) if by_channel else np.float32(0.05)
    weight = t.constant(packed(numbers), dtype="int4", shape=(5, 8), scale=scales)
    t.op("FULLY_CONNECTED", [t.input((3, 8)), weight], (3, 5), "FullyConnectedOptions")
    model, x = read_litert(t.data()).model, RANDOM.standard_normal((3, 8)).astype(np.float32)
    node = ops(model, "DequantizeLinear")[0]
    assert node.inputs[0].dtype == ir.DataType.INT4
    assert node.inputs[0].const_value.numpy().astype(np.int8).tolist() == numbers.tolist()
    wanted = x @ (numbers * np.reshape(scales, (-1, 1))).T
    np.testing.assert_allclose(run_hub(model, [x])[0], wanted, rtol=1e-5, atol=1e-5)


def test_two_bit_weights_become_floats() -> None:
    t = Tflite()
    numbers = RANDOM.integers(-2, 2, (5, 8))
    flat = numbers.reshape(-1).astype(np.uint8) & 3
    data = bytes(flat[0::4] | flat[1::4] << 2 | flat[2::4] << 4 | flat[3::4] << 6)
    weight = t.constant(data, dtype="int2", shape=(5, 8), scale=0.5)
    t.op("FULLY_CONNECTED", [t.input((3, 8)), weight], (3, 5), "FullyConnectedOptions")
    x = RANDOM.standard_normal((3, 8)).astype(np.float32)
    got = run_hub(read_litert(t.data()).model, [x])[0]
    np.testing.assert_allclose(got, x @ (numbers * np.float32(0.5)).T, rtol=1e-5, atol=1e-5)


def test_scales_for_blocks() -> None:
    t = Tflite()
    numbers = RANDOM.integers(-8, 8, (6, 64))
    scales = RANDOM.uniform(0.01, 0.1, (6, 2)).astype(np.float16)
    weight = t.constant(packed(numbers), dtype="int4", shape=(6, 64))
    held = t.constant(scales)
    made = t.graph.tensors[weight].quantization = t.api.QuantizationParametersT()
    made.detailsType, made.details = t.api.QuantizationDetails.BlockwiseQuantization, t.api.BlockwiseQuantizationT()
    made.details.scales, made.details.blockSize = held, 32
    t.op("FULLY_CONNECTED", [t.input((3, 64)), weight], (3, 6), "FullyConnectedOptions")
    model, x = read_litert(t.data()).model, RANDOM.standard_normal((3, 64)).astype(np.float32)
    wanted = x @ (numbers * np.repeat(scales.astype(np.float32), 32, axis=1)).T
    np.testing.assert_allclose(run_hub(model, [x])[0], wanted, rtol=1e-4, atol=1e-4)
    assert ops(model, "DequantizeLinear")[0].attributes["block_size"].as_int() == 32


def test_four_bit_numbers_are_ml_dtypes() -> None:
    t = Tflite()
    weight = t.constant(packed(np.array([[-8, 7], [1, -1]])), dtype="int4", shape=(2, 2), scale=1.0)
    t.op("FULLY_CONNECTED", [t.input((1, 2)), weight], (1, 2), "FullyConnectedOptions")
    tensor = ops(read_litert(t.data()).model, "DequantizeLinear")[0].inputs[0].const_value
    assert tensor.numpy().dtype == ml_dtypes.int4
    assert tensor.tobytes() == bytes([0x78, 0xF1])


def _moved(name: str, after: tuple[int, ...], options: str | None, *constants: Any, **fields: Any) -> Any:
    def make(t: Tflite) -> None:
        x = conv(t, t.input(IMAGE, "int8", scale=0.05), IMAGE)
        out = t.tensor(after, "int8", scale=0.07, zero=-20)
        t.op(
            name,
            [x, *[t.constant(c) for c in constants]],
            out,
            options,
            version=1 if name == "RESHAPE" else 2,
            **fields,
        )

    return make


POOL = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
MOVED = {
    "MAX_POOL_2D": _moved("MAX_POOL_2D", (1, 3, 4, 4), "Pool2DOptions", **POOL),
    "AVERAGE_POOL_2D": _moved("AVERAGE_POOL_2D", (1, 3, 4, 4), "Pool2DOptions", **POOL),
    "RESHAPE": _moved("RESHAPE", (1, 192), "ReshapeOptions", [1, 192]),
    "TRANSPOSE": _moved("TRANSPOSE", (1, 4, 6, 8), "TransposeOptions", [0, 3, 1, 2]),
    "MEAN": _moved("MEAN", (1, 4), "ReducerOptions", [1, 2]),
    "STRIDED_SLICE": _moved(
        "STRIDED_SLICE", (1, 3, 8, 4), "StridedSliceOptions", [0, 1, 0, 0], [1, 4, 8, 4], [1, 1, 1, 1]
    ),
    "RESIZE_NEAREST_NEIGHBOR": _moved(
        "RESIZE_NEAREST_NEIGHBOR", (1, 12, 16, 4), "ResizeNearestNeighborOptions", [12, 16]
    ),
    "PAD": _moved("PAD", (1, 8, 10, 4), "PadOptions", [[0, 0], [1, 1], [1, 1], [0, 0]]),
}


@pytest.mark.parametrize("name", MOVED)
def test_operators_on_integers(name: str) -> None:
    t = Tflite()
    MOVED[name](t)
    near(t.data(), [integers(IMAGE)], steps=1)


@pytest.mark.parametrize(
    ("name", "zero", "scale"), [("LOGISTIC", -128, 1 / 256), ("TANH", 0, 1 / 128), ("SOFTMAX", -128, 1 / 256)]
)
def test_activations_of_integers(name: str, zero: int, scale: float) -> None:
    t = Tflite()
    options = {"options": "SoftmaxOptions", "beta": 1.0} if name == "SOFTMAX" else {}
    t.op(
        name,
        [t.input((2, 9), "int8", scale=0.04)],
        t.tensor((2, 9), "int8", scale=scale, zero=zero),
        version=2,
        **options,
    )
    near(t.data(), [integers((2, 9))], steps=1)


def test_from_one_scale_to_another() -> None:
    t = Tflite()
    t.op(
        "QUANTIZE",
        [t.input(IMAGE, "uint8", scale=0.05, zero=128)],
        t.tensor(IMAGE, "int8", scale=0.05),
        "QuantizeOptions",
    )
    data, feed = t.data(), [integers(IMAGE, "uint8")]
    assert run_hub(read_litert(data).model, feed)[0].tolist() == run_litert(data, feed)[0].tolist()


def test_scales_do_not_count_in_a_cast() -> None:
    t = Tflite()
    t.op("CAST", [t.input(IMAGE, "uint8", scale=0.05, zero=128)], IMAGE)
    data, feed = t.data(), [integers(IMAGE, "uint8")]
    assert run_hub(read_litert(data).model, feed)[0].tolist() == run_litert(data, feed)[0].tolist()


def test_weights_behind_a_conversion_are_weights() -> None:
    """Without a Cast or Transpose in the graph."""
    t = Tflite()
    weight = t.op("DEQUANTIZE", [t.constant(RANDOM.standard_normal((8, 3, 3, 4)).astype(np.float16))], (8, 3, 3, 4))
    t.op("CONV_2D", [t.input(IMAGE), weight, t.weight(8)], (1, 6, 8, 8), "Conv2DOptions", strideW=1, strideH=1)
    model = read_litert(t.data()).model
    assert [node.op_type for node in model.graph] == ["Transpose", "Conv", "Transpose"]
    assert ops(model, "Conv")[0].inputs[1].dtype == ir.DataType.FLOAT


def test_a_zero_point_out_of_range_is_refused() -> None:
    from fewbit.errors import ModelError

    t = Tflite()
    t.op("RELU", [t.input((2,), "int8", scale=0.1, zero=300)], t.tensor((2,), "int8", scale=0.1))
    with pytest.raises(ModelError, match="zero points from 300 to 300, and INT8 has none"):
        read_litert(t.data())
