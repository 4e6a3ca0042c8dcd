"""Weights alone in narrow numbers: hybrid kernels, float16, 4 and 2 bits, blocks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fewbit.formats.litert.read.door import read_litert
from fewbit.formats.litert.write import convert, write_litert
from fewbit.graph.load import load
from tests.formats.litert.write.running import KINDS, kernels, run_file, run_model, sqnr
from tests.graph.build import model, node

pytest.importorskip("ai_edge_litert")

TYPES = {"int8": TensorProto.INT8, "int4": TensorProto.INT4, "int2": TensorProto.INT2}
SHAPES = {  # operator: (weight, axis of the channels, input, attributes)
    "MatMul": ((64, 24), 1, (1, 5, 64), {}),
    "Gemm": ((24, 64), 0, (3, 64), {"transB": 1}),
    "Conv": ((8, 16, 3, 3), 0, (1, 16, 8, 8), {}),
    "Grouped": ((8, 4, 3, 3), 0, (1, 16, 8, 8), {"group": 4}),
    "Depthwise": ((16, 1, 3, 3), 0, (1, 16, 8, 8), {"group": 16}),
    "ConvTranspose": ((16, 8, 2, 2), 1, (1, 16, 8, 8), {"strides": [2, 2]}),
}
EXACT, HYBRID = 100.0, 35.0
"""dB: in float, and with activations that the kernel quantizes to 8 bits by row as it runs."""


def weighted(
    op: str, dtype: str, grain: str, activation: str = "float32"
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """One product by a constant behind a DequantizeLinear."""
    rng = np.random.default_rng(3)
    shape, axis, sizes, attributes = SHAPES[op]
    weight = rng.normal(size=shape).astype(np.float32)
    most = {"int8": 127, "int4": 7, "int2": 1}[dtype]
    options: dict[str, int] = {}
    if grain == "tensor":
        scale = np.asarray(np.abs(weight).max() / most, np.float32)
        wide = scale
    elif grain == "channel":
        wide = np.abs(weight).max(axis=tuple(a for a in range(len(shape)) if a != axis), keepdims=True) / most
        scale, options = wide.astype(np.float32).reshape(-1), {"axis": axis}
    else:
        inner = 1 - axis
        blocks = np.abs(np.moveaxis(weight, inner, -1).reshape(shape[axis], -1, 32)).max(-1) / most
        scale = np.moveaxis(blocks.astype(np.float16).astype(np.float32), -1, inner)
        wide, options = np.repeat(scale, 32, inner), {"axis": inner, "block_size": 32}
    steps = np.clip(np.rint(weight / wide), -most, most).astype(np.int8)
    x = rng.normal(size=sizes).astype(np.float32)
    nodes = [node("DequantizeLinear", ["wi", "ws"], ["w"], **options)]
    constants = [numpy_helper.from_array(scale.astype(np.float32), "ws")]
    constants.append(helper.make_tensor("wi", TYPES[dtype], shape, steps.reshape(-1).tolist()))
    kind = "Conv" if op in ("Depthwise", "Grouped") else op
    if activation == "float32":
        nodes.append(node(kind, ["x", "w"], ["y"], **attributes))
    else:
        limit = np.iinfo(activation).max
        constants += [
            numpy_helper.from_array(np.float32(np.abs(x).max() / limit), "xs"),
            numpy_helper.from_array(np.float32(40 / limit), "ys"),
            numpy_helper.from_array(np.array(0, activation), "z"),
        ]
        nodes += [
            node("QuantizeLinear", ["x", "xs", "z"], ["xq"]),
            node("DequantizeLinear", ["xq", "xs", "z"], ["xd"]),
            node(kind, ["xd", "w"], ["o"], **attributes),
            node("QuantizeLinear", ["o", "ys", "z"], ["oq"]),
            node("DequantizeLinear", ["oq", "ys", "z"], ["y"]),
        ]
    ends = [helper.make_tensor_value_info("x", 1, sizes)], [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(nodes, "g", *ends, constants)
    opset, version = (25, 11) if dtype == "int2" else (21, 10)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version), {"x": x}


def quality(form: onnx.ModelProto, feed: dict[str, np.ndarray], data: bytes) -> float:
    expected = run_model(form, feed)[0]
    return min(float(sqnr(expected, run_file(data, feed, kind)["y"])) for kind in KINDS)


@pytest.mark.parametrize("grain", ["tensor", "channel"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("op", SHAPES)
def test_weights_alone(op: str, dtype: str, grain: str) -> None:
    """In a hybrid kernel where there is one that computes what it should, else behind a Dequantize."""
    form, feed = weighted(op, dtype, grain)
    data = write_litert(load(form))
    products = ("MatMul", "Gemm")
    takes = {
        "int8": (*products, "Conv", "Grouped", "ConvTranspose"),
        "int4": (*products, "Conv", "Grouped"),
        "int2": products,
    }
    hybrid = op in takes[dtype]
    assert kernels(data)["DEQUANTIZE"] == (not hybrid)
    assert quality(form, feed, data) >= (HYBRID if hybrid else EXACT)
    assert quality(form, feed, write_litert(load(form), hybrid=False)) >= EXACT


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_blocks(op: str) -> None:
    form, feed = weighted(op, "int4", "block")
    written = convert(load(form))
    assert written.notes == ()
    assert quality(form, feed, written.data) >= HYBRID
    form, feed = weighted(op, "int8", "block")
    written = convert(load(form))
    assert "int8 in blocks of 32" in written.notes[0]
    assert quality(form, feed, written.data) >= EXACT


@pytest.mark.parametrize("activation", ["int8", "int16"])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("op", SHAPES)
def test_narrow_weights_beside_integers(op: str, dtype: str, activation: str) -> None:
    """4-bit weights of a depthwise convolution beside int16 compute nonsense: they stay out."""
    form, feed = weighted(op, dtype, "channel", activation)
    data = write_litert(load(form))
    assert quality(form, feed, data) >= HYBRID
    kernel = (
        dtype == "int8" or op in ("MatMul", "Gemm", "Conv", "Grouped") or (op == "Depthwise" and activation == "int8")
    )
    assert kernels(data)["DEQUANTIZE"] == (1 if kernel else 3)


@pytest.mark.parametrize("op", SHAPES)
def test_a_quantized_activation_is_not_quantized_again(op: str) -> None:
    """A product of quantized tensors with a float result: in float, as a hybrid kernel would find scales of its own."""
    form, feed = weighted(op, "int8", "channel", "int8")
    del form.graph.node[-2:]
    form.graph.output[0].name = "o"
    data = write_litert(load(form))
    expected = run_model(form, feed)[0]
    for kind in KINDS:
        assert sqnr(expected, run_file(data, feed, kind)["o"]) >= EXACT
    assert kernels(data)["DEQUANTIZE"] == 2


def test_four_bits_are_packed() -> None:
    """Two to a byte, the first in the low half."""
    form, _ = weighted("Gemm", "int4", "channel")
    steps = next(t for t in form.graph.initializer if t.name == "wi")
    assert steps.raw_data[:0] == b""
    wanted = helper.make_tensor("wi", TensorProto.INT4, [24, 64], numpy_helper.to_array(steps).reshape(-1).tolist())
    packed = bytes(wanted.int32_data) if wanted.int32_data else wanted.raw_data
    assert packed in write_litert(load(form))


def test_half_precision() -> None:
    """float16 constants stay so, behind a Dequantize."""
    weight = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float16)
    source = model(
        [node("Cast", ["w"], ["wf"], to=1), node("MatMul", ["x", "wf"], ["y"])],
        ["x:f[1,3,64]"],
        ["y:f[1,3,32]"],
        {"w": weight},
    )
    data = write_litert(load(source, normalize=False))
    assert kernels(data) == {"DEQUANTIZE": 1, "FULLY_CONNECTED": 1}
    assert len(data) < weight.size * 2 + 1500
    feed = {"x": np.random.default_rng(1).normal(size=(1, 3, 64)).astype(np.float32)}
    assert quality(source, feed, data) >= EXACT


def test_what_was_read_is_written_again_bit_for_bit() -> None:
    form, feed = weighted("Conv", "int8", "channel", "int8")
    once = write_litert(load(form))
    twice = write_litert(read_litert(once).model)
    assert kernels(once) == kernels(twice)
    for kind in KINDS:
        assert np.array_equal(run_file(once, feed, kind)["y"], run_file(twice, feed, kind)["y"])


def test_blocks_of_next_to_nothing() -> None:
    """Their scales are zero as float16, which XNNPACK refuses."""
    form, feed = weighted("MatMul", "int4", "block")
    scale = next(constant for constant in form.graph.initializer if constant.name == "ws")
    array = numpy_helper.to_array(scale).copy()
    array[:, 3] = 1e-20
    scale.CopyFrom(numpy_helper.from_array(array, "ws"))
    data = write_litert(load(form))
    assert quality(form, feed, data) >= HYBRID
    assert np.abs(run_file(data, feed, "AUTO")["y"][..., 3]).max() < 1e-4
