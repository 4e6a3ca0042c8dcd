"""Small float networks: a CNN, a depthwise network with residuals, a transformer block."""

from __future__ import annotations

import numpy as np
import onnx

from tests.graph.build import model, node


def _w(*shape: int, seed: int) -> np.ndarray:
    fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(fan)).astype(np.float32)


def cnn() -> onnx.ModelProto:
    """Convolutions, pools, a Concat and a head."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c0"], ["r0"]),
        node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["p0", "w2", "b2"], ["c2"]),
        node("Clip", ["c2", "zero", "six"], ["r2"]),
        node("Concat", ["r1", "r2"], ["cat"], axis=1),
        node("AveragePool", ["cat"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p1"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["g"], transB=1),
        node("Softmax", ["g"], ["y"]),
    ]
    constants = {
        "w0": _w(8, 3, 3, 3, seed=1), "b0": _w(8, seed=2),
        "w1": _w(12, 8, 3, 3, seed=3), "b1": _w(12, seed=4),
        "w2": _w(4, 8, 1, 1, seed=5) * 4, "b2": _w(4, seed=6),
        "w3": _w(10, 256, seed=7) * 6, "b3": _w(10, seed=8),
        "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    return model(nodes, ["x:f[1,3,32,32]"], ["y:f[1,10]"], constants, opset=21, ir_version=10)


def depthwise() -> onnx.ModelProto:
    """Inverted residuals with a gate of Sigmoid, and a mean over the image."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Clip", ["c0", "zero", "six"], ["r0"]),
    ]
    constants = {"w0": _w(8, 3, 3, 3, seed=1), "b0": _w(8, seed=2), "zero": np.float32(0), "six": np.float32(6)}
    x = "r0"
    for i in range(3):
        k = 10 * (i + 1)
        constants |= {
            f"e{i}": _w(24, 8, 1, 1, seed=k), f"eb{i}": _w(24, seed=k + 1),
            f"d{i}": _w(24, 1, 3, 3, seed=k + 2), f"db{i}": _w(24, seed=k + 3),
            f"s{i}": _w(8, 24, 1, 1, seed=k + 4), f"sb{i}": _w(8, seed=k + 5),
        }  # fmt: skip
        nodes += [
            node("Conv", [x, f"e{i}", f"eb{i}"], [f"ec{i}"]),
            node("Clip", [f"ec{i}", "zero", "six"], [f"er{i}"]),
            node("Conv", [f"er{i}", f"d{i}", f"db{i}"], [f"dc{i}"], group=24, pads=[1, 1, 1, 1]),
            node("Relu", [f"dc{i}"], [f"dr{i}"]),
            node("GlobalAveragePool", [f"dr{i}"], [f"gm{i}"]),
            node("Sigmoid", [f"gm{i}"], [f"gs{i}"]),
            node("Mul", [f"dr{i}", f"gs{i}"], [f"gd{i}"]),
            node("Conv", [f"gd{i}", f"s{i}", f"sb{i}"], [f"sc{i}"]),
            node("Add", [f"sc{i}", x], [f"sum{i}"]),
        ]
        x = f"sum{i}"
    nodes += [
        node("GlobalAveragePool", [x], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "v", "vb"], ["y"], transB=1),
    ]
    constants |= {"v": _w(5, 8, seed=90), "vb": _w(5, seed=91)}
    return model(nodes, ["x:f[1,3,24,24]"], ["y:f[1,5]"], constants, opset=21, ir_version=10)


def transformer(gelu: bool = True) -> onnx.ModelProto:
    """Attention of two heads and an MLP, with residuals."""
    nodes = []
    constants = {"heads": np.array([1, 12, 2, 8]), "width": np.array([1, 12, 16])}
    for i, name in enumerate("qkv"):
        constants |= {f"w{name}": _w(16, 16, seed=i), f"b{name}": _w(16, seed=i + 10)}
        nodes += [
            node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            node("Add", [f"{name}0", f"b{name}"], [f"{name}1"]),
            node("Reshape", [f"{name}1", "heads"], [f"{name}2"]),
            node("Transpose", [f"{name}2"], [f"{name}3"], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    constants |= {
        "wo": _w(16, 16, seed=20), "w1": _w(16, 32, seed=21), "b1": _w(32, seed=22), "w2": _w(32, 16, seed=23),
        "root": np.float32(8**-0.5),
    }  # fmt: skip
    nodes += [
        node("MatMul", ["q3", "k3"], ["scores"]),
        node("Mul", ["scores", "root"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"]),
        node("MatMul", ["p", "v3"], ["mixed"]),
        node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "width"], ["joined"]),
        node("MatMul", ["joined", "wo"], ["o"]),
        node("Add", ["o", "x"], ["res"]),
        node("MatMul", ["res", "w1"], ["h0"]),
        node("Add", ["h0", "b1"], ["h1"]),
        node("Gelu", ["h1"], ["h2"]) if gelu else node("Relu", ["h1"], ["h2"]),
        node("MatMul", ["h2", "w2"], ["h3"]),
        node("Add", ["h3", "res"], ["y"]),
    ]
    return model(nodes, ["x:f[1,12,16]"], ["y:f[1,12,16]"], constants, opset=21, ir_version=10)
