"""The operators of a LiteRT file, each as a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import fewbit
from fewbit.formats.litert.kernels import litert_kernels, timed_litert_kernel
from fewbit.runtimes.litert import open_session


def written(digits: Path, samples: Path, path: Path, recipe: str) -> Path:
    fewbit.quantize(
        digits, samples, recipe, "litert-cpu", path, effort="fast", verify=False, keep_names=True, min_sqnr=0
    )
    return path


def test_operators_run_alone_on_what_they_have_in_the_file(digits: Path, samples: Path, tmp_path: Path) -> None:
    found = litert_kernels(written(digits, samples, tmp_path / "m.tflite", "int8"), {})
    ops = [kernel.op for kernel in found]
    assert {"QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "FULLY_CONNECTED", "DEQUANTIZE"} <= set(ops)
    (first,) = found[ops.index("CONV_2D")].feed.values()
    assert first.dtype == np.int8
    for kernel in found:
        timed_litert_kernel(kernel)()
    one = next(kernel for kernel in found if kernel.op == "DEQUANTIZE")
    session = open_session(one.model)
    (given,) = one.feed.values()
    (real,) = session.run({session.inputs[0]: given})
    assert real.dtype == np.float32 and real.shape == given.shape and np.ptp(real) > 0


def test_the_digest_tells_integers_from_floats_and_is_the_same_for_the_same_file(
    digits: Path, samples: Path, tmp_path: Path
) -> None:
    integers = litert_kernels(written(digits, samples, tmp_path / "a.tflite", "int8"), {})
    again = litert_kernels(written(digits, samples, tmp_path / "b.tflite", "int8"), {})
    floats = litert_kernels(written(digits, samples, tmp_path / "c.tflite", "fp16"), {})
    assert [k.digest for k in integers] == [k.digest for k in again]
    heavy = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert not {k.digest for k in integers if k.op in heavy} & {k.digest for k in floats if k.op in heavy}


def test_weights_that_are_expanded_when_a_file_is_loaded_stay_constants(
    digits: Path, samples: Path, tmp_path: Path
) -> None:
    found = litert_kernels(written(digits, samples, tmp_path / "m.tflite", "fp16"), {})
    assert all(len(kernel.feed) == 1 for kernel in found if kernel.op == "CONV_2D")
    assert "DEQUANTIZE" not in [kernel.op for kernel in found]


def test_padding_goes_with_the_convolution_that_reads_it(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        # Two rows before and none behind: what no padding of LiteRT's own convolution says.
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[3, 3], pads=[2, 2, 0, 0])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    fewbit.quantize(path, None, "fp16", "litert-cpu", tmp_path / "m.tflite", verify=False, keep_names=True)
    found = litert_kernels(tmp_path / "m.tflite", {})
    ops = [kernel.op for kernel in found]
    assert "PAD" not in ops and ops.count("CONV_2D") == 1
    convolution = found[ops.index("CONV_2D")]
    (given,) = convolution.feed.values()
    assert given.shape == (1, 6, 6, 8)  # before it is padded
    timed_litert_kernel(convolution)()
