"""The simulation of hybrid kernels, against LiteRT's own, bit by bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("ai_edge_litert")

from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.formats.litert.write import convert
from fewbit.formats.onnx.dynamic import AS_IT_RUNS
from fewbit.formats.onnx.exact import with_integer_arithmetic
from fewbit.graph.hub import Hub
from tests.formats.litert.write.running import run_file, run_model

OPSET = 21


def product(
    sizes: tuple[int, ...],
    integers: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    op: str = "MatMul",
    opset: int = OPSET,
    stride: int = 1,
    **attributes: int,
) -> ir.Model:
    """x by a weight behind a DequantizeLinear, quantizing x as it runs; attributes: of the DequantizeLinear."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(sizes))
    arrays = {"integers": integers, "scale": np.asarray(scale, np.float32)}
    if bias is not None:
        arrays["bias"] = bias.astype(np.float32)
    constants = {}
    for name, array in arrays.items():
        tensor = ir.tensor(array, name=name)
        constants[name] = ir.Value(
            name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape)
        )
    real = ir.node("DequantizeLinear", [constants["integers"], constants["scale"]], attributes=attributes)
    inputs = [x, real.outputs[0]]
    if bias is not None and op != "MatMul":
        inputs.append(constants["bias"])
    of_product = {"pads": [integers.shape[2] // 2] * 4, "strides": [stride] * 2} if op == "Conv" else {}
    nodes = [real, ir.node(op, inputs, name="product", attributes=of_product)]
    nodes[-1].metadata_props[AS_IT_RUNS] = "dynamic"
    if bias is not None and op == "MatMul":
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], constants["bias"]]))
    output = nodes[-1].outputs[0]
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    if op == "Conv":
        output.shape = ir.Shape((sizes[0], len(integers), *(size // stride for size in sizes[2:])))
    else:
        output.shape = ir.Shape((*sizes[:-1], integers.shape[1]))
    graph = ir.Graph(
        [x], [output], nodes=nodes, initializers=list(constants.values()), opset_imports={"": opset}, name="g"
    )
    return ir.Model(graph, ir_version=10)


def both(model: ir.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(what is simulated, what LiteRT gives)."""
    (meant,) = run_model(Hub(with_integer_arithmetic(model)), {"x": x})
    made = run_file(convert(Hub(model.clone()), shapes={}, hybrid={"product"}).data, {"x": x}, "AUTO")
    return meant, made["y"]


def assert_same(meant: np.ndarray, made: np.ndarray) -> None:
    """Bit by bit where a kernel multiplies and adds at once; on a processor that cannot, within two of the last bits of the
    greatest number. An integer that is rounded otherwise makes a hundred times as much."""
    np.testing.assert_allclose(made, meant, rtol=0, atol=float(2 * np.spacing(np.abs(meant).max())))


def test_a_row_by_hand() -> None:
    """Steps of 0.01, as ranges are from -1 to 1.55, from 0 to 2.55 where no number is below it, and from -2.55 to 0; a row of
    zeros has none."""
    model = product((4, 3), np.array([[1], [10], [100]], np.int8), np.array([0.5]), axis=1)
    x = np.array([[-1.0, 1.55, 0.126], [1.004, 0.126, 2.55], [0, 0, 0], [-2.55, -1.004, -0.126]], np.float32)
    meant, made = both(model, x)
    steps = np.array([[-100 + 1550 + 1300], [100 + 130 + 25500], [0], [-255 - 1000 - 1300]])
    np.testing.assert_allclose(meant, steps * 0.01 * 0.5, rtol=1e-6)
    assert_same(meant, made)


@pytest.mark.parametrize("opset", [17, OPSET])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("sizes", "outputs"), [((7, 8), 4), ((1, 48, 384), 96), ((1, 5, 1536), 24), ((2, 3, 5, 20), 7)]
)
def test_rows(sizes: tuple[int, ...], outputs: int, bias: bool, opset: int) -> None:
    random = np.random.default_rng(len(sizes))
    integers = random.integers(-127, 128, (sizes[-1], outputs)).astype(np.int8)
    added = random.normal(size=outputs) if bias else None
    model = product(sizes, integers, random.uniform(0.001, 0.01, outputs), added, axis=1, opset=opset)
    x = (3 * random.normal(size=sizes) + random.normal(size=(*sizes[:-1], 1))).astype(np.float32)
    assert_same(*both(model, x))


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_one_scale_for_all(op: str) -> None:
    random = np.random.default_rng(1)
    integers = random.integers(-127, 128, (32, 16)).astype(np.int8)
    model = product((6, 32), integers, np.array(0.003), random.normal(size=16), op=op)
    assert_same(*both(model, random.normal(size=(6, 32)).astype(np.float32)))


def test_four_bits() -> None:
    random = np.random.default_rng(2)
    integers = random.integers(-7, 8, (64, 48)).astype(ml_dtypes.int4)
    model = product((1, 9, 64), integers, random.uniform(0.01, 0.1, 48), random.normal(size=48), axis=1)
    assert_same(*both(model, random.normal(size=(1, 9, 64)).astype(np.float32)))


@pytest.mark.parametrize("block", [32, 64])
def test_blocks_have_scales_of_bfloat16(block: int) -> None:
    random = np.random.default_rng(3)
    integers = random.integers(-7, 8, (128, 48)).astype(ml_dtypes.int4)
    scale = random.uniform(0.01, 0.1, (128 // block, 48)).astype(np.float16)
    for bias in (None, random.normal(size=48)):
        model = product((1, 9, 128), integers, scale, bias, axis=0, block_size=block)
        meant, made = both(model, random.normal(size=(1, 9, 128)).astype(np.float32))
        assert_same(meant, made)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
def test_convolutions(kernel: int, stride: int) -> None:
    """A range for each image, or where a kernel is a matrix and nothing is skipped for each pixel."""
    random = np.random.default_rng(4)
    integers = random.integers(-127, 128, (16, 8, kernel, kernel)).astype(np.int8)
    scale, bias = random.uniform(0.001, 0.01, 16), random.normal(size=16)
    model = product((2, 8, 12, 12), integers, scale, bias, op="Conv", stride=stride, axis=0)
    x = random.normal(size=(2, 8, 12, 12)).astype(np.float32) * np.array([1, 20], np.float32).reshape(2, 1, 1, 1)
    assert_same(*both(model, x))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_any_row(row: list[float]) -> None:
    model = product((1, 4), np.diag([1, 1, 1, 1]).astype(np.int8), np.array(1.0))
    x = np.array([row], np.float32)
    x[np.abs(x) < 1e-30] = 0.0  # numbers so small have no reciprocal, and kernels may take them for zero
    meant, made = both(model, x)
    assert_same(meant, made)
    step = (max(float(x.max()), 0.0) - min(float(x.min()), 0.0)) / 255
    assert np.abs(meant - x).max() <= step * 1.001


def test_what_has_no_hybrid_kernel_stays_as_it_is() -> None:
    """Weights with a scale for each input."""
    random = np.random.default_rng(5)
    integers = random.integers(-127, 128, (8, 4)).astype(np.int8)
    model = product((3, 8), integers, random.uniform(0.001, 0.01, 8), axis=0)
    x = random.normal(size=(3, 8)).astype(np.float32)
    np.testing.assert_array_equal(
        run_model(Hub(with_integer_arithmetic(model)), {"x": x})[0], run_model(Hub(model), {"x": x})[0]
    )
