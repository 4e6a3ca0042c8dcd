"""4-bit weights of integer kernels: packed in the file, int8 for the kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit
from fewbit.runtimes.onnxruntime import executed_graph
from tests.models import Builder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution, a Gemm with transB, and a Gemm of (K, N), each with more than 512 weights."""
    b = Builder()
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(16, 8, 3, 3), b.weight(16)])])
    hidden = b.node("Flatten", [b.node("GlobalAveragePool", [hidden])])
    hidden = b.node("Relu", [b.node("Gemm", [hidden, b.weight(64, 16), b.weight(64)], transB=1)])
    b.node("Gemm", [hidden, b.weight(64, 32), b.weight(32)], "y")
    return b.save(tmp_path / "m.onnx", {"x": ("N", 8, 6, 6)}, ["y"])


@pytest.fixture
def data() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((32, 8, 6, 6)).astype(np.float32)}


def test_integer_kernels_read_4_bit_weights(model: Path, data: dict[str, np.ndarray], tmp_path: Path) -> None:
    made = fewbit.quantize(model, data, "w4a8", out=tmp_path / "q.onnx", min_sqnr=0)
    assert made.verification is not None
    assert made.verification.kernels.float_heavy == {}
    assert {"QLinearConv": 1, "QGemm": 2}.items() <= made.verification.kernels.integer.items()
    assert made.verification.outputs[0].sqnr > 12
    packed = [t for t in onnx.load(tmp_path / "q.onnx").graph.initializer if t.data_type == onnx.TensorProto.UINT8]
    assert sorted(len(t.raw_data) for t in packed)[-4:] == [512, 512, 576, 1024]  # the parts of every byte, and weights


def test_the_file_computes_with_4_bit_values(model: Path, data: dict[str, np.ndarray], tmp_path: Path) -> None:
    plan = fewbit.quantize(model, data, "w4a8", verify=False, min_sqnr=0).plan
    assert {str(s.spec.dtype) for s in plan.constants().values() if s.spec} == {"int4"}
    assert {n.form for n in plan.nodes.values() if n.weight} == {"integer"}


def test_dynamic_kernels_read_4_bit_weights(tmp_path: Path) -> None:
    b = Builder()
    b.node("MatMul", ["x", b.weight(64, 64)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"])
    recipe = {"base": "int8-dynamic", "rules": [{"weight": {"dtype": "int4"}}]}
    made = fewbit.quantize(model, recipe=recipe, out=tmp_path / "q.onnx")
    assert [op for *_, op in executed_graph(tmp_path / "q.onnx")] == ["DynamicQuantizeMatMul"]
    assert made.verification is not None and made.verification.outputs[0].sqnr > 15


def test_a_product_of_16_bit_activations_is_not_rounded_to_8(tmp_path: Path) -> None:
    """The runtime would make MatMulNBits, with 8-bit activations inside, of a DequantizeLinear before a MatMul."""
    b = Builder()
    b.node("Add", [b.node("MatMul", ["x", b.weight(64, 64)]), b.weight(64)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"])
    data = {"x": np.random.default_rng(1).standard_normal((32, 64)).astype(np.float32)}
    made = fewbit.quantize(
        model, data, {"base": "a16w8", "rules": [{"weight": {"range": "absmax"}}]}, out=tmp_path / "q.onnx"
    )
    assert "MatMulNBits" not in [op for *_, op in executed_graph(tmp_path / "q.onnx")]
    assert made.verification is not None
    # 16 bits add nothing that could be seen beside 8-bit weights; 8 bits inside would leave about 40 dB.
    assert made.verification.outputs[0].sqnr > 42
