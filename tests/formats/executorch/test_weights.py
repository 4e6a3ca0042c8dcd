"""Integer weights beside float activations: XNNPACK quantizes each row of the activation as it runs."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")

from tests.formats.executorch.running import agreement, feed_of, nodes, written
from tests.graph.build import node

K, N = 64, 24
FORMS = ("8", "4", "4_groups", "8_turned", "8_groups", "8_shifted")


def weighted() -> onnx.ModelProto:
    """One product for each form of a weight, of the same activation."""
    random = np.random.default_rng(3)
    nodes_, constants, outputs = [], [], []
    for form in FORMS:
        bits, most = int(form[0]), 127 if form[0] == "8" else 7
        weight = random.normal(size=(K, N)).astype(np.float32)
        axis, options, inputs = 1, {}, [f"q{form}", f"s{form}"]
        if "groups" in form:
            axis, options = 0, {"block_size": 32}
            scale = np.abs(weight.reshape(2, 32, N)).max(1) / most
            scale = scale.astype(ml_dtypes.bfloat16).astype(np.float32)  # what the file keeps of such scales
            wide = np.repeat(scale, 32, 0)
        else:
            scale = wide = (np.abs(weight).max(0) / most).astype(np.float32)
        integers = np.clip(np.rint(weight / wide), -most, most).astype(np.int8)
        if "shifted" in form:
            constants.append(numpy_helper.from_array(np.full(N, 3, np.int8), f"z{form}"))
            inputs.append(f"z{form}")
        if "turned" in form:
            integers, axis = integers.T, 0
        kind = TensorProto.INT8 if bits == 8 else TensorProto.INT4
        constants.append(helper.make_tensor(f"q{form}", kind, integers.shape, integers.reshape(-1).tolist()))
        constants.append(numpy_helper.from_array(scale, f"s{form}"))
        nodes_.append(node("DequantizeLinear", inputs, [f"w{form}"], axis=axis, **options))
        if "turned" in form:
            constants.append(numpy_helper.from_array(random.normal(size=N).astype(np.float32), f"b{form}"))
            nodes_.append(node("Gemm", ["x", f"w{form}", f"b{form}"], [f"y{form}"], transB=1))
        else:
            nodes_.append(node("MatMul", ["x", f"w{form}"], [f"y{form}"]))
        outputs.append(helper.make_tensor_value_info(f"y{form}", TensorProto.FLOAT, None))
    inputs_ = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, K])]
    graph = helper.make_graph(nodes_, "g", inputs_, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def by_rows(x: np.ndarray) -> np.ndarray:
    """x as int8 with a scale and zero point a row, in float again (XNNPACK's qd8)."""
    low, high = np.minimum(x.min(1, keepdims=True), 0), np.maximum(x.max(1, keepdims=True), 0)
    scale = (high - low) / 255
    zero = np.clip(np.rint(-128 - low / scale), -128, 127)
    return ((np.clip(np.rint(x / scale) + zero, -128, 127) - zero) * scale).astype(np.float32)


def test_activations_are_quantized_as_they_run() -> None:
    form = weighted()
    feed = feed_of(form)
    feed["x"] *= np.linspace(0.1, 4, 5, dtype=np.float32)[:, None]
    result = written(form)
    assert len(result.data) < 40_000
    counts = nodes(result.data)
    assert counts["FullyConnected int8 · int8"] == 2 and counts["FullyConnected int8 · int4"] == 2
    assert counts["FullyConnected float32 · float32"] == 2
    assert len(result.notes) == 2 and all("XNNPACK's kernels take" in note for note in result.notes)
    for name, db in agreement(form, result.data, feed).items():
        assert db >= (100.0 if name in ("y8_groups", "y8_shifted") else 35.0), (name, db)
    for name, db in agreement(form, result.data, {"x": by_rows(feed["x"])}).items():
        assert db >= 60.0, (name, db)  # what is quantized already keeps its integers


def test_or_weights_become_float() -> None:
    form = weighted()
    feed = feed_of(form)
    result = written(form, dynamic=False)
    assert nodes(result.data) == {"FullyConnected float32 · float32": len(FORMS)}
    assert len(result.notes) == len(FORMS)
    assert min(agreement(form, result.data, feed).values()) >= 100.0


def test_a_table_of_rows() -> None:
    random = np.random.default_rng(0)
    table = random.integers(-127, 128, (30, 16)).astype(np.int8)
    scale = (random.random(30) / 100).astype(np.float32)
    made = [
        node("DequantizeLinear", ["t", "s"], ["real"], axis=0),
        node("Gather", ["real", "ids"], ["y"]),
    ]
    ends = [
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 16])],
    ]
    constants = [numpy_helper.from_array(table, "t"), numpy_helper.from_array(scale, "s")]
    graph = helper.make_graph(made, "g", *ends, constants)
    form = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    feed = {"ids": np.array([[0, 5, 29], [7, 7, -1]])}
    assert agreement(form, written(form).data, feed)["y"] >= 120.0
