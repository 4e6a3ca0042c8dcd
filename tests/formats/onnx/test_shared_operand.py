"""A constant that one node adds as integers and another one, which stays in float, adds as floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fewbit


def model(path: Path) -> Path:
    generator = np.random.default_rng(0)
    weights = [generator.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.1 for _ in range(3)]
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w0"], ["a"], name="conv0", **pads),
            helper.make_node("Relu", ["a"], ["ra"], name="relu0"),
            helper.make_node("Add", ["ra", "c"], ["b"], name="add0"),
            helper.make_node("Conv", ["b", "w1"], ["d"], name="conv1", **pads),
            helper.make_node("Relu", ["d"], ["rd"], name="relu1"),
            helper.make_node("Add", ["rd", "c"], ["e"], name="add1"),
            helper.make_node("Conv", ["e", "w2"], ["y"], name="conv2", **pads),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 6, 6])],
        [
            *(numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)),
            numpy_helper.from_array(np.float32(3.3), "c"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("target", ["ort-cpu", "litert-cpu"])
def test_a_float_node_reads_the_constant_as_it_is(tmp_path: Path, target: str) -> None:
    generator = np.random.default_rng(1)
    samples = [{"x": generator.standard_normal((1, 8, 6, 6)).astype(np.float32)} for _ in range(4)]
    result = fewbit.quantize(
        model(tmp_path / "m.onnx"), samples, "int8", target, exclude=["add1"], min_sqnr=0, effort="fast"
    )
    assert result.plan.nodes["add0"].form == "integer" and result.plan.nodes["add1"].form == "float"
    (add,) = (node for node in result.model.graph if node.name == "add1")
    held = [np.asarray(v.const_value) for v in add.inputs if v is not None and v.const_value is not None]
    assert [float(array) for array in held] == [pytest.approx(3.3)]
