from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema

from fewbit.errors import ModelError, VerificationError
from fewbit.runtimes.execution import ExecutedOp
from fewbit.runtimes.litert_file import arena_of, read_graphs
from fewbit.runtimes.litert_ops import executed_ops
from fewbit.runtimes.verify import check_fallbacks
from tests.tflite import TfliteBuilder, conv_net, memory_net


def test_a_float_model(tmp_path: Path) -> None:
    found = executed_ops(conv_net(tmp_path / "m.tflite"))
    assert found.ops == [
        ExecutedOp("CONV_2D", "XNNPACK", "float32 · float32", 1),
        ExecutedOp("RESHAPE", "XNNPACK", "float32", 1),
        ExecutedOp("FULLY_CONNECTED", "XNNPACK", "float32 · float32", 1),
    ]
    assert found.partitions == 1
    assert found.kernels.float_heavy == {"Conv": 1, "Gemm": 1} and not found.kernels.integer
    assert found.arena is not None
    # Input 768 bytes and hidden 512 at the convolution; the reshaped hidden takes the input's place.
    assert found.arena.bytes == found.arena.live == 1280 and found.arena.offsets == (0, 768, 0, 512)


def test_an_int8_model(tmp_path: Path) -> None:
    found = executed_ops(conv_net(tmp_path / "m.tflite", quantized=True))
    assert {(op.op, op.dtypes) for op in found.ops} == {
        ("CONV_2D", "int8 · int8"),
        ("RESHAPE", "int8"),
        ("FULLY_CONNECTED", "int8 · int8"),
    }
    assert found.kernels.integer == {"CONV_2D": 1, "FULLY_CONNECTED": 1} and not found.kernels.float_heavy
    assert found.kernels.other == {"RESHAPE": 1}
    assert found.arena is not None and found.arena.bytes == 1280 // 4
    check_fallbacks(found.kernels, {}, "LiteRT")


def test_what_xnnpack_does_not_take_splits_the_model(tmp_path: Path) -> None:
    b = TfliteBuilder()
    for name in ("x", "a", "b", "c", "d", "y"):
        b.tensor(name, (1, 8))
    b.constant("axis", np.array(1, np.int32))
    for op, source, result in (("RELU", "x", "a"), ("NEG", "a", "b")):
        b.op(op, [source], [result])
    b.op("CUMSUM", ["b", "axis"], ["c"], schema.CumsumOptionsT())
    for op, source, result in (("ABS", "c", "d"), ("RELU", "d", "y")):
        b.op(op, [source], [result])
    found = executed_ops(b.save(tmp_path / "m.tflite", ["x"], ["y"]))
    assert found.partitions == 2
    assert [(op.op, op.where, op.count) for op in found.ops] == [
        ("RELU", "XNNPACK", 2),
        ("NEG", "XNNPACK", 1),
        ("CUMSUM", "LiteRT", 1),
        ("ABS", "XNNPACK", 1),
    ]


def test_integer_weights_beside_float_activations(tmp_path: Path) -> None:
    b = TfliteBuilder()
    b.tensor("x", (1, 16))
    b.constant("w", np.ones((4, 16), np.int8), scale=np.full(4, 0.1))
    b.tensor("y", (1, 4))
    b.op("FULLY_CONNECTED", ["x", "w", ""], ["y"], schema.FullyConnectedOptionsT(), version=9)
    found = executed_ops(b.save(tmp_path / "m.tflite", ["x"], ["y"]))
    assert found.kernels.integer == {"FULLY_CONNECTED": 1} and not found.kernels.float_heavy
    assert [op.dtypes for op in found.ops] == ["float32 · int8"]


def test_a_heavy_op_that_is_float_against_the_plan(tmp_path: Path) -> None:
    found = executed_ops(conv_net(tmp_path / "m.tflite"))
    check_fallbacks(found.kernels, {"Conv": 1, "MatMul": 1}, "LiteRT")
    with pytest.raises(VerificationError, match="LiteRT runs 1 Conv in float where the plan has 0"):
        check_fallbacks(found.kernels, {"Gemm": 1}, "LiteRT")


def test_what_a_file_holds(tmp_path: Path) -> None:
    (graph,) = read_graphs(conv_net(tmp_path / "m.tflite", quantized=True))
    tensors = {tensor.name: tensor for tensor in graph.tensors}
    assert [op.name for op in graph.ops] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]
    assert [tensors[name].constant for name in ("x", "hidden", "conv.weight", "shape")] == [False, False, True, True]
    x, weight = tensors["x"], tensors["conv.weight"]
    assert (x.dtype, x.shape, x.bytes, x.zero_points) == ("int8", (1, 8, 8, 3), 192, (0,))
    assert x.scales == pytest.approx((4 / 127,))
    assert weight.quantized and len(weight.scales) == 8 and weight.axis == 0 and not tensors["shape"].quantized


def test_variables_keep_their_place(tmp_path: Path) -> None:
    arena = executed_ops(memory_net(tmp_path / "m.tflite")).arena
    assert arena is not None and arena.bytes == 48  # x, state and y, 16 bytes each by alignment


def test_the_arena_of_branches_comes_on_top(tmp_path: Path) -> None:
    (graph,) = read_graphs(conv_net(tmp_path / "m.tflite"))
    assert arena_of([graph, graph]).bytes == 2 * 1280


def test_a_file_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(ModelError, match="cannot load"):
        executed_ops(tmp_path / "m.tflite")
