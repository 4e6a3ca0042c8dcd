"""Gradients against finite differences, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from fewbit.graph.load import load
from tests.models import Builder

torch = pytest.importorskip("torch")

from fewbit.torchgraph.module import GraphModule, to_torch  # noqa: E402

Shape = tuple[int, ...]

CASES: dict[str, tuple[str, Shape, list[Any], dict[str, Any]]] = {
    # name: operator, shape of x, other inputs (a shape for random numbers), attributes
    "conv": ("Conv", (1, 2, 5, 5), [(4, 1, 3, 3), (4,)], {"pads": [1, 0, 2, 1], "group": 2, "strides": [2, 1]}),
    "conv_transpose": ("ConvTranspose", (1, 2, 3, 3), [(2, 3, 2, 2)], {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    "gemm": ("Gemm", (3, 4), [(2, 4), (2,)], {"transB": 1, "alpha": 0.5}),
    "matmul": ("MatMul", (2, 3, 4), [(4, 5)], {}),
    "average_pool": (
        "AveragePool",
        (1, 2, 5, 5),
        [],
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "strides": [2, 2]},
    ),
    "max_pool": ("MaxPool", (1, 1, 4, 4), [], {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    "layer_norm": ("LayerNormalization", (2, 6), [(6,), (6,)], {}),
    "instance_norm": ("InstanceNormalization", (2, 3, 4), [(3,), (3,)], {}),
    "batch_norm": ("BatchNormalization", (2, 3, 4), [(3,), (3,), (3,), np.float32([1, 2, 3])], {}),
    "softmax": ("Softmax", (2, 5), [], {"axis": -1}),
    "erf": ("Erf", (2, 5), [], {}),
    "hard_swish": ("HardSwish", (7,), [], {}),
    "clip": ("Clip", (9,), [np.float32(-0.5), np.float32(0.5)], {}),
    "pow": ("Pow", (5,), [np.float32(2)], {}),
    "resize": ("Resize", (1, 1, 3, 4), [None, None, np.int64([1, 1, 5, 6])], {"mode": "cubic"}),
    "resize_by_torch": ("Resize", (1, 1, 3, 4), [None, None, np.int64([1, 1, 6, 8])], {"mode": "linear"}),
    "gather": ("Gather", (5, 3), [np.int64([[0, 4], [4, 1]])], {}),
    "reduce": ("ReduceL2", (2, 3, 4), [], {"axes": [1, 2]}),
    "lstm": ("LSTM", (3, 2, 4), [(1, 12, 4), (1, 12, 3), (1, 24)], {"hidden_size": 3}),
    "gru": ("GRU", (3, 2, 4), [(1, 9, 4), (1, 9, 3), (1, 18)], {"hidden_size": 3, "linear_before_reset": 1}),
    "dequantize": ("DequantizeLinear", (), [], {}),
}


def module_of(case: str) -> tuple[GraphModule, list[torch.Tensor]]:
    op, shape, others, attributes = CASES[case]
    b = Builder()
    names = ["x"]
    for other in others:
        names.append("" if other is None else b.weight(*other) if isinstance(other, tuple) else b.constant(other))
    if case == "dequantize":  # the scale is what learns
        names = [b.constant(np.int8([[3, -4], [5, 100]])), "x"]
        shape, attributes = (2,), {"axis": 0}
    b.node(op, names, "y", **attributes)
    kinds = {"x": TensorProto.DOUBLE}
    module = to_torch(load(b.proto({"x": shape}, ["y"], 17, kinds), normalize=False)).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    return module, [x, *module.parameters()]


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str) -> None:
    module, tensors = module_of(case)
    keys = [name for name, _ in module.named_parameters()]

    def run(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(keys, weights, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, tensors)


def test_bounds_that_are_computed_learn_too() -> None:
    b = Builder()
    b.node("Clip", ["x", "low", "high"], "y")
    model = b.proto({"x": (3,), "low": (), "high": ()}, ["y"])
    inputs = [torch.tensor(v, requires_grad=True) for v in ([-2.0, 0.0, 5.0], -1.0, 1.0)]
    to_torch(load(model, normalize=False))(*inputs)[0].sum().backward()
    assert [v.grad.tolist() for v in inputs] == [[0, 1, 0], 1, 1]


def test_gradients_pass_branches_and_loops() -> None:
    """y = x · w³ by a Loop whose body captures w."""
    from onnx import helper

    b = Builder()
    b.constant(np.float32([2]), "w")
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "w"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    b.node("Loop", [b.constant(np.int64(3)), "", "x"], "y", body=body)
    module = to_torch(load(b.proto({"x": (1,)}, ["y"]), normalize=False), trainable=["w"])
    (y,) = module(torch.tensor([5.0]))
    y.backward()
    assert y.item() == 40 and module.weights()["w"].grad.item() == 5 * 3 * 2**2
    module.hook("w", lambda w: w + 1)
    assert module(torch.tensor([5.0]))[0].item() == 5 * 27
