"""Small ONNX models for tests, made with the ONNX helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and constants; `save` writes a model that passes the checker."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def constant(self, array: Any, name: str | None = None) -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"value{len(self.nodes)}"
        domain = attributes.pop("domain", "")
        self.nodes.append(
            helper.make_node(op, inputs, [output], f"{op}_{len(self.nodes)}", domain=domain, **attributes)
        )
        return output

    def proto(
        self,
        inputs: dict[str, tuple[Any, ...]],
        outputs: Sequence[str],
        opset: int = 17,
        dtypes: dict[str, int] | None = None,
    ) -> onnx.ModelProto:
        kinds = dtypes or {}
        graph = helper.make_graph(
            self.nodes,
            "test",
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), list(s)) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None) for n in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return model

    def save(self, path: Path, inputs: dict[str, tuple[Any, ...]], outputs: Sequence[str], **options: Any) -> Path:
        path.write_bytes(self.proto(inputs, outputs, **options).SerializeToString())
        return path


def conv_relu_conv(path: Path, channels: int = 8) -> Path:
    """x → Conv → Relu → Conv → y."""
    b = Builder()
    hidden = b.node("Relu", [b.node("Conv", ["x", b.weight(channels, 3, 3, 3), b.weight(channels)], pads=[1, 1, 1, 1])])
    b.node("Conv", [hidden, b.weight(4, channels, 1, 1), b.weight(4)], "y")
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def attention(path: Path, width: int = 32) -> Path:
    """One attention block over x [N, T, width] with a causal mask of -10000 that is added to the scores."""
    b = Builder()
    gamma = b.constant(np.ones(width, np.float32))
    norm = b.node("LayerNormalization", ["x", gamma, b.weight(width)], axis=-1)
    q, k, v = (b.node("Add", [b.node("MatMul", [norm, b.weight(width, width)]), b.weight(width)]) for _ in range(3))
    scores = b.node("MatMul", [q, b.node("Transpose", [k], perm=[0, 2, 1])])
    mask = np.triu(np.full((16, 16), -10000.0, np.float32), 1)
    weights = b.node("Softmax", [b.node("Add", [scores, b.constant(mask)])], axis=-1)
    mixed = b.node("MatMul", [b.node("MatMul", [weights, v]), b.weight(width, width)])
    b.node("Add", ["x", mixed], "y")
    return b.save(path, {"x": ("N", 16, width)}, ["y"])


def two_inputs() -> Builder:
    """Two inputs, a residual addition, a concatenation, and outputs made by an integer and by a float node."""
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)], pads=[1, 1, 1, 1])])
    z = b.node("Conv", ["z", b.weight(8, 3, 1, 1), b.weight(8)])
    x = b.node("Concat", [b.node("Add", [x, z]), z], axis=1)
    x = b.node("Conv", [x, b.weight(4, 16, 1, 1)], "map")
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.node("Softmax", [b.node("Gemm", [x, b.weight(4, 5), b.weight(5)])], "shares", axis=-1)
    return b
