"""Weight-only kernels against the numerics of the core: every code word, zero point, block and shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

import fewbit
from fewbit.core.affine import dequantize
from fewbit.core.packing import unpack
from fewbit.formats.onnx.nbits import packed
from fewbit.graph.load import load
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_weight
from fewbit.runtimes.onnxruntime import executed_graph, open_session
from fewbit.spec import DType, QParams, QSpec
from tests.models import Builder

WEIGHT_ONLY = {"base": "int4-weights", "rules": [{"compute": "weight_only"}]}


def test_the_bytes_of_four_bits() -> None:
    """Two outputs of 16 inputs: low nibble first, 8 added, each row and each row of zero points in bytes of its own."""
    q = np.stack([np.arange(-8, 8), np.full(16, -8)]).astype(np.int8)
    made = packed(
        q, QParams(QSpec(DType("int", 4), (1, 16)), np.ones((2, 1), np.float32), np.zeros((2, 1), np.int32)), 0,
        whole_blocks=True,
    )  # fmt: skip
    assert made.data.tolist() == [[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], [0] * 8]
    assert (made.bits, made.block, made.zero_point) == (4, 16, None)


def test_three_bits_lie_in_four_and_a_short_block_is_filled_up() -> None:
    """(inputs, outputs) = (20, 1) in blocks of 16: 32 places of 4 bits, the last 12 of them 8."""
    q = (np.arange(20) % 8).astype(np.uint8)[:, None]
    spec = QSpec(DType("uint", 3), (16, 1), symmetric=False)
    made = packed(
        q,
        QParams(spec, np.array([[1], [2]], np.float32), np.array([[3], [5]], np.int32)),
        1,
        whole_blocks=True,
    )
    assert unpack(made.data, DType("uint", 4), (32,)).tolist() == [*q[:, 0].tolist(), *[8] * 12]
    assert made.scale.tolist() == [[1, 2]]
    assert made.zero_point is not None and made.zero_point.tolist() == [[0x53]]


def test_the_scale_of_a_channel_is_repeated_for_every_block() -> None:
    q = np.zeros((300, 2), np.int8)
    params = QParams(QSpec(DType("int", 4), (-1, 1)), np.array([[2, 3]], np.float32), np.zeros((1, 2), np.int32))
    made = packed(q, params, 1, whole_blocks=True)
    assert made.block == 128 and made.scale.tolist() == [[2, 2, 2], [3, 3, 3]]


def weight_model(path: Path, op: str, shape: tuple[int, int], **attributes: int) -> Path:
    """One node with a weight that holds every code word of 2 to 8 bits, unevenly scaled."""
    b = Builder()
    random = np.random.default_rng(0)
    weight = (random.integers(-128, 128, shape) * random.uniform(0.5, 2, (shape[0], 1))).astype(np.float32)
    if op == "Gather":
        b.node("Gather", [b.constant(weight), "x"], "y")
        return b.save(path, {"x": ("N",)}, ["y"], dtypes={"x": onnx.TensorProto.INT64})
    b.node(op, ["x", b.constant(weight)], "y", **attributes)
    inputs = shape[1] if attributes.get("transB") else shape[0]
    return b.save(path, {"x": ("N", inputs)}, ["y"])


def exact(model: Path, feed: NDArray) -> tuple[NDArray, list[str]]:
    """The rows of the weight that the runtime multiplies with, without rounding activations."""
    proto = onnx.load(model)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    return open_session(proto.SerializeToString()).run({"x": feed})[0], [op for *_, op in executed_graph(model)]


@pytest.mark.parametrize("granularity", ["tensor", "channel", 16, 32, 48, 128])
@pytest.mark.parametrize("dtype", ["int2", "int3", "int4", "int8", "uint2", "uint3", "uint4", "uint8"])
@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [("MatMul", (160, 33), {}), ("Gemm", (33, 172), {"transB": 1}), ("Gather", (70, 96), {})],
)
def test_kernels_read_the_weight_of_the_plan(
    op: str, shape: tuple[int, int], attributes: dict[str, int], dtype: str, granularity: str | int, tmp_path: Path
) -> None:
    model = weight_model(tmp_path / "m.onnx", op, shape, **attributes)
    weight = {"dtype": dtype, "symmetric": dtype.startswith("int"), "granularity": granularity}
    if isinstance(granularity, int):
        weight |= {"granularity": "group", "group_size": granularity}
    made = fewbit.quantize(
        model, recipe={"rules": [{"compute": "weight_only", "weight": weight}]}, out=tmp_path / "q.onnx", verify=False
    )
    hub = load(model)
    (node,) = hub.nodes()
    held = weight_of(node)
    assert held is not None
    wanted = effective_weight(hub, made.plan, node, held.value)
    if op == "Gather":
        feed = np.arange(shape[0])
    else:
        feed, wanted = np.eye(held.shape[held.in_axis], dtype=np.float32), wanted if held.in_axis == 0 else wanted.T
    real, ops = exact(tmp_path / "q.onnx", feed)
    assert np.array_equal(real, wanted)
    assert ops == ["GatherBlockQuantized" if op == "Gather" else "MatMulNBits"]


@pytest.mark.parametrize("kind", ["int", "uint"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_code_word_with_every_zero_point(kind: str, bits: int, tmp_path: Path) -> None:
    """The runtime's dequantized values are the core's, for all pairs of integer and zero point."""
    dtype = DType(kind, bits)  # type: ignore[arg-type]
    every = np.arange(dtype.qmin, dtype.qmax + 1)
    q = np.tile(every, (len(every), -(-16 // len(every)))).astype(dtype.storage)  # (zero points, code words)
    params = QParams(
        QSpec(dtype, (1, -1), symmetric=False), np.full((len(q), 1), 0.25, np.float32), every[:, None].astype(np.int32)
    )
    made = packed(q, params, 0, whole_blocks=True)
    b = Builder()
    operands = [b.constant(made.data.reshape(len(q), -1, made.block * made.bits // 8)), b.constant(made.scale)]
    operands += [] if made.zero_point is None else [b.constant(made.zero_point)]
    sizes = {"K": q.shape[1], "N": len(q), "bits": made.bits, "block_size": made.block}
    b.node("MatMulNBits", ["x", *operands], "y", domain="com.microsoft", **sizes)
    proto = b.proto({"x": ("M", q.shape[1])}, ["y"])
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    real = open_session(proto.SerializeToString()).run({"x": np.eye(q.shape[1], dtype=np.float32)})[0].T
    assert np.array_equal(real, dequantize(q, params))


def test_a_bias_is_fused_and_a_group_that_no_kernel_takes_is_stored(tmp_path: Path) -> None:
    b = Builder()
    hidden = b.node("Relu", [b.node("Gemm", ["x", b.weight(64, 64), b.weight(64)])])
    b.node("Add", [b.node("MatMul", [hidden, b.weight(64, 48)]), b.weight(48)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"])
    made = fewbit.quantize(model, recipe=WEIGHT_ONLY, out=tmp_path / "q.onnx")
    assert [op for *_, op in executed_graph(tmp_path / "q.onnx")] == ["MatMulNBits", "Relu", "MatMulNBits"]
    assert made.verification is not None and made.verification.outputs[0].sqnr > 17
    assert made.verification.kernels.integer == {"MatMulNBits": 2}
    twenty = {**WEIGHT_ONLY, "rules": [{"compute": "weight_only", "weight": {"group_size": 20}}]}
    plan = fewbit.quantize(model, recipe=twenty, verify=False).plan
    reasons = {n.form: n.reason for n in plan.nodes.values() if n.weight}
    assert list(reasons) == ["storage"]
    assert "groups of a multiple of 16 weights, not 20" in reasons["storage"]


def test_scales_of_groups_are_stored_as_float16(tmp_path: Path) -> None:
    model = weight_model(tmp_path / "m.onnx", "MatMul", (256, 64))
    made = fewbit.quantize(model, recipe=WEIGHT_ONLY, out=tmp_path / "q.onnx", verify=False)
    kinds = {t.data_type for t in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert kinds == {onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT16}
    # 4 bits a weight; 16 for the scale and 4 for the zero point of every 32
    assert 0 < made.bytes - 256 * 64 * (4 + 20 / 32) / 8 < 400
    assert [op for *_, op in executed_graph(tmp_path / "q.onnx")] == ["MatMulNBits"]
    assert isinstance(made.model, ir.Model)
