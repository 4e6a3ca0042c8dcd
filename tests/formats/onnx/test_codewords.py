"""Stored weights as the runtime reads them: every code word, and folded when the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

import fewbit
from fewbit.core.packing import pack
from fewbit.core.quant import dequantize
from fewbit.formats.onnx.codewords import expanded
from fewbit.formats.onnx.emit import Emitter
from fewbit.graph.load import load
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_weight
from fewbit.runtimes.onnxruntime import executed_graph, open_session
from fewbit.spec import DType, QParams, QSpec
from tests.models import Builder


def run_constant(codes: NDArray[Any], params: QParams, tmp_path: Path) -> NDArray[np.float32]:
    """The weight that ONNX Runtime makes of codes, and nothing but a constant may be left to compute it."""
    b = Builder()
    b.node("Neg", ["x"], "y")
    hub = load(b.proto({"x": ("N",)}, ["y"]))
    emit = Emitter(hub)
    (value,) = emit.node("Mul", [expanded(emit, codes, params, "w"), hub.graph.inputs[0]], "y", dtype=ir.DataType.FLOAT)
    value.name, hub.graph.outputs[0].name = "out", "old"
    hub.graph.outputs[0] = value
    hub.graph.sort()
    RemoveUnusedNodesPass()(hub.model)
    path = tmp_path / "m.onnx"
    path.write_bytes(ir.to_proto(hub.model).SerializeToString())
    assert [op for _, _, op in executed_graph(path)] == ["Mul"]
    return open_session(path).run({"x": np.ones(1, np.float32)})[0]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", [(1, 256), (257,), (3, 85)])
def test_every_code_word_of_a_codebook(bits: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    table = np.sort(np.random.default_rng(bits).standard_normal(2**bits)).astype(np.float32)
    codes = (np.arange(np.prod(shape)) % 2**bits).astype(np.uint8).reshape(shape)
    spec = QSpec(DType("uint", bits), codebook="kmeans")
    params = QParams(spec, np.asarray(0.5, np.float32), np.zeros((), np.int32), table)
    real = run_constant(codes, params, tmp_path)
    assert np.array_equal(real, table[codes] * np.float32(0.5))


@pytest.mark.parametrize("kind", ["int", "uint"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_integer(kind: str, bits: int, tmp_path: Path) -> None:
    dtype = DType(kind, bits)  # type: ignore[arg-type]
    codes = np.arange(dtype.qmin, dtype.qmax + 1).astype(dtype.storage)
    zero = 0 if kind == "int" else 2 ** (bits - 1)
    params = QParams(QSpec(dtype), np.asarray(0.25, np.float32), np.asarray(zero, np.int32))
    assert run_constant(codes, params, tmp_path).tolist() == ((codes.astype(int) - zero) * 0.25).tolist()


@pytest.mark.parametrize("name", ["float8e4m3", "float8e5m2"])
def test_every_eight_bit_float_below_opset_19(name: str, tmp_path: Path) -> None:
    dtype = DType.parse(name)
    every = np.arange(256, dtype=np.uint8).view(dtype.storage)
    codes = every[np.isfinite(every.astype(np.float32))]
    params = QParams(QSpec(dtype), np.asarray(2.0, np.float32), np.zeros((), np.int32))
    assert np.array_equal(run_constant(codes, params, tmp_path), codes.astype(np.float32) * 2)


@pytest.mark.parametrize("bits", [2, 4])
def test_the_bytes_are_those_of_the_types_of_onnx(bits: int) -> None:
    """UINT2 and UINT4 tensors of the same bytes, as the runtime's own Cast reads them."""
    codes = np.random.default_rng(0).permutation(np.arange(257) % 2**bits).astype(np.uint8)
    opset, version, kind = {2: (25, 13, TensorProto.UINT2), 4: (21, 10, TensorProto.UINT4)}[bits]
    tensor = helper.make_tensor("w", kind, [257], pack(codes, DType("uint", bits)).tobytes(), raw=True)
    nodes = [helper.make_node("Cast", ["w"], ["c"], to=TensorProto.FLOAT), helper.make_node("Add", ["c", "x"], ["y"])]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)
    assert open_session(model.SerializeToString()).run({"x": np.zeros(1, np.float32)})[0].tolist() == codes.tolist()


@pytest.mark.parametrize(
    ("shape", "block"),
    [((10, 6), (4, 1)), ((10, 6), (1, 4)), ((8, 6), (4, -1)), ((3, 7, 2, 2), (1, 3, -1, -1)), ((2, 5, 9), (1, 1, 4))],
)
def test_blocks_and_short_last_blocks(shape: tuple[int, ...], block: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grid = tuple(1 if b == -1 else -(-n // b) for n, b in zip(shape, block, strict=True))
    scale = random.uniform(0.5, 2, grid).astype(np.float16).astype(np.float32)
    table = np.linspace(-1, 1, 16, dtype=np.float32)
    params = QParams(QSpec(DType("uint", 4), block, codebook="kmeans"), scale, np.zeros(grid, np.int32), table)
    codes = random.integers(0, 16, shape).astype(np.uint8)
    assert np.array_equal(run_constant(codes, params, tmp_path), dequantize(codes, params))


@pytest.mark.parametrize(
    ("shape", "block"),
    [((12, 6), (4, 1)), ((10, 7), (4, 1)), ((10, 8), (1, 4)), ((6, 8), (1, -1)), ((3, 7, 2, 2), (1, 3, -1, -1))],
)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_zero_point_a_block(bits: int, shape: tuple[int, ...], block: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(bits)
    dtype = DType("uint", bits)
    grid = tuple(1 if b == -1 else -(-n // b) for n, b in zip(shape, block, strict=True))
    scale, zero = random.uniform(0.5, 2, grid).astype(np.float32), random.integers(0, 2**bits, grid).astype(np.int32)
    params = QParams(QSpec(dtype, block, symmetric=False), scale, zero)
    codes = random.integers(0, 2**bits, shape).astype(np.uint8)
    assert np.array_equal(run_constant(codes, params, tmp_path), dequantize(codes, params))


def test_many_integers_of_3_bits_take_3_bits(tmp_path: Path) -> None:
    codes = (np.arange(8192) * 5 % 8).astype(np.uint8).reshape(64, 128)
    params = QParams(QSpec(DType("uint", 3)), np.asarray(0.5, np.float32), np.asarray(2, np.int32))
    assert np.array_equal(run_constant(codes, params, tmp_path), (codes.astype(np.float32) - 2) * 0.5)
    tensors = onnx.load(tmp_path / "m.onnx").graph.initializer
    assert sorted(tuple(t.dims) for t in tensors if len(t.dims) == 2 and t.dims[0] == 64) == [(64, 16), (64, 32)]


def mixed_model(opset: int) -> onnx.ModelProto:
    """An embedding, a MatMul with bias and a Gemm with transB."""
    b = Builder()
    rows = b.node("Gather", [b.weight(200, 65), "tokens"])
    hidden = b.node("Relu", [b.node("Add", [b.node("MatMul", [rows, b.weight(65, 128)]), b.weight(128)])])
    pooled = b.node("Reshape", [hidden, b.constant(np.array([-1, 128], np.int64))])
    b.node("Gemm", [pooled, b.weight(63, 128), b.weight(63)], "y", transB=1)
    proto = b.proto({"tokens": ("N",)}, ["y"], opset=opset, dtypes={"tokens": TensorProto.INT64})
    proto.ir_version = 8 if opset < 19 else 9
    return proto


@pytest.mark.parametrize(
    ("recipe", "least", "most"),
    [
        ("nf4", 17, 0.18),
        ("fp4", 14, 0.18),
        ("codebook4", 17, 0.18),
        ("codebook3", 12, 0.18),
        ("codebook2", 6, 0.12),
        ("pot4", 10, 0.18),
        ("apot4", 16, 0.18),
        ("fp8-e4m3", 28, 0.29),
        ("fp8-e5m2", 21, 0.29),
        ("bf16", 45, 0.52),
    ],
)
def test_recipes_store_what_the_plan_says(recipe: str, least: float, most: float, tmp_path: Path) -> None:
    check_stored(mixed_model(17), recipe, least, most, tmp_path)


@pytest.mark.parametrize("opset", [13, 19])
@pytest.mark.parametrize("recipe", ["codebook3", "fp8-e4m3", "bf16"])
def test_old_and_new_opsets(recipe: str, opset: int, tmp_path: Path) -> None:
    check_stored(mixed_model(opset), recipe, 7, 0.52, tmp_path)


def check_stored(model: onnx.ModelProto, recipe: str, least: float, most: float, tmp_path: Path) -> None:
    """The file is small, close to float, and computes with exactly the weights of the plan."""
    made = fewbit.quantize(model, recipe=recipe, out=tmp_path / "q.onnx")
    assert made.verification is not None and made.verification.outputs[0].sqnr > least
    assert made.bytes < most * len(model.SerializeToString())
    feeds = {"tokens": np.arange(200)}
    exact, hub = load(model), load(model)
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is None:
            continue
        site = made.plan.sites[weight.name]
        real = np.asarray(hub.constant(weight.value), np.float32)
        rounded = (
            real.astype(ml_dtypes.bfloat16)
            if site.params is None
            else effective_weight(hub, made.plan, node, weight.value)
        )
        exact.graph.initializers[weight.name].const_value = ir.tensor(np.asarray(rounded, np.float32), name=weight.name)
    wanted = open_session(exact.model).run(feeds)[0]
    np.testing.assert_allclose(open_session(tmp_path / "q.onnx").run(feeds)[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recipe", ["codebook4", "codebook2", "fp8-e4m3"])
def test_nothing_is_left_to_expand_when_the_model_runs(recipe: str, tmp_path: Path) -> None:
    made = fewbit.quantize(mixed_model(17), recipe=recipe, out=tmp_path / "q.onnx")
    assert made.verification is not None
    assert sorted(op for *_, op in executed_graph(tmp_path / "q.onnx")) == ["FusedGemm", "Gather", "Gemm"]


def test_a_table_of_bytes_is_stored_once(tmp_path: Path) -> None:
    fewbit.quantize(mixed_model(17), recipe="nf4", out=tmp_path / "q.onnx")
    graph = onnx.load(tmp_path / "q.onnx").graph
    sizes = [tuple(t.dims) for t in graph.initializer]
    assert sizes.count((256, 2)) == 1 and sizes.count((16,)) == 1
