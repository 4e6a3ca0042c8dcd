"""The kernels of a file in ONNX Runtime, each as a model of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fewbit.formats.onnx.kernels import onnx_kernels, timed_onnx_kernel
from fewbit.runtimes.kernel import kernel_digest
from fewbit.runtimes.onnxruntime import open_session


def conv_relu(path: Path, *, seed: int = 0, channels: int = 3) -> Path:
    """Conv, Relu, and a mean over its pixels: 8 outputs that the runtime's blocked layouts take."""
    weights = np.random.default_rng(seed).standard_normal((16, channels, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("Softmax", ["r"], ["y"], name="softmax", axis=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def feed(channels: int = 3) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).standard_normal((1, channels, 8, 8)).astype(np.float32)}


def test_kernels_are_those_that_run_with_what_is_fused_and_computed_as_in_the_model(tmp_path: Path) -> None:
    path = conv_relu(tmp_path / "m.onnx")
    found = onnx_kernels(path, feed())
    ops = [kernel.op.rsplit(".", 1)[-1] for kernel in found]
    assert "Relu" not in ops and ops[-1] == "Softmax"  # Relu is fused into the convolution
    assert any("r" in kernel.names for kernel in found if "Conv" in kernel.op)
    assert found[-1].names == ("softmax", "y")
    (alone,) = open_session(found[-1].model).run(found[-1].feed)
    (whole,) = open_session(path).run(feed())
    np.testing.assert_array_equal(alone, whole)


def test_the_digest_knows_sizes_and_attributes_and_not_the_values_of_weights(tmp_path: Path) -> None:
    def digests(**kwargs: int) -> list[str]:
        channels = kwargs.get("channels", 3)
        return [k.digest for k in onnx_kernels(conv_relu(tmp_path / "m.onnx", **kwargs), feed(channels))]

    first = digests()
    assert digests(seed=7) == first
    wider = digests(channels=4)
    assert wider[-1] == first[-1] and wider[0] != first[0]
    assert kernel_digest("Conv", ["a"], [], []) != kernel_digest("Conv", ["b"], [], [])
    assert kernel_digest("Conv", ["a"], [], []) == "377e667477a0fbdf924a2b60"


def test_a_timed_kernel_runs(tmp_path: Path) -> None:
    for kernel in onnx_kernels(conv_relu(tmp_path / "m.onnx"), feed()):
        timed_onnx_kernel(kernel)()


def test_weights_that_are_expanded_when_a_file_is_loaded_are_constants(tmp_path: Path) -> None:
    table = np.arange(64, dtype=np.int8).reshape(8, 8)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s"], ["w"], name="dq"),
            helper.make_node("MatMul", ["x", "w"], ["m"], name="mm"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("m", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(table, "q"), numpy_helper.from_array(np.float32(0.5), "s")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    (kernel,) = onnx_kernels(path, {"x": np.ones((1, 8), np.float32)})
    assert [*kernel.feed] == ["x"]
