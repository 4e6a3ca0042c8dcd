"""Sums and products of integers against the kernels of ONNX Runtime, on every pair of two integers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from fewbit.errors import ModelError
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import UINT8, QParams, QSpec

torch = pytest.importorskip("torch")

from fewbit.torchgraph.elementwise import IntegerPair  # noqa: E402
from fewbit.torchgraph.fake_quantize import FakeQuantize  # noqa: E402
from fewbit.torchgraph.module import to_torch  # noqa: E402

A, B = (grid.reshape(-1).astype(np.uint8) for grid in np.meshgrid(np.arange(256), np.arange(256)))
Numbers = tuple[np.float32, int]


def runtime(op: str, a: Numbers, b: Numbers, y: Numbers) -> Any:
    names = ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"]
    held = {f"s{n}": np.float32(p[0]) for n, p in zip("aby", (a, b, y), strict=True)}
    held |= {f"z{n}": np.uint8(p[1]) for n, p in zip("aby", (a, b, y), strict=True)}
    values = [helper.make_tensor_value_info(n, TensorProto.UINT8, [A.size]) for n in "aby"]
    graph = helper.make_graph(
        [helper.make_node(f"QLinear{op}", names, ["y"], domain="com.microsoft")],
        "pair",
        values[:2],
        values[2:],
        [numpy_helper.from_array(np.array(v), n) for n, v in held.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return open_session(ir.from_proto(model)).run({"a": A, "b": B})[0]


def fake(numbers: Numbers) -> FakeQuantize:
    spec = QSpec(UINT8, symmetric=False)
    return FakeQuantize(QParams(spec, np.array(numbers[0], np.float32), np.array(numbers[1], np.int32)))


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("seed", range(12))
def test_integers_are_those_of_the_runtime(op: Literal["Add", "Mul"], seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b, y = (
        (np.float32(s), int(z)) for s, z in zip(random.uniform(0.005, 0.1, 3), random.integers(0, 256, 3), strict=True)
    )
    if seed % 3 == 0:  # every second sum then lies in the middle between two integers
        b, y = (a[0], b[1]), (2 * a[0], y[1])
    quantizers = [fake(numbers) for numbers in (a, b, y)]
    kernel = IntegerPair(op, ((quantizers[0], 1.0), (quantizers[1], 1.0)), quantizers[2].eval())
    reals = [(torch.from_numpy(q.astype(np.float32)) - p[1]) * float(p[0]) for q, p in ((A, a), (B, b))]
    plain = reals[0] + reals[1] if op == "Add" else reals[0] * reals[1]
    made = quantizers[2].integers(kernel(plain, *reals)).numpy()
    expected = runtime(op, a, b, y)
    np.testing.assert_array_equal(made, expected)
    if op == "Add" and seed % 3 == 0:
        assert (quantizers[2].integers(plain).numpy() != expected).any()  # which is what the kernel is for
    assert (
        kernel(plain, *reals) is not plain
        and IntegerPair(op, kernel.inputs, quantizers[2].train())(plain, *reals) is plain
    )


def test_a_kernel_needs_its_node() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    module = to_torch(onnx.helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])))
    module.set_kernel("relu", lambda made, x: made + x)
    np.testing.assert_array_equal(module(torch.tensor([-1.0, 2.0]))[0], [-1.0, 4.0])
    with pytest.raises(ModelError, match="no node of this name"):
        module.set_kernel("other", lambda made, x: made)
