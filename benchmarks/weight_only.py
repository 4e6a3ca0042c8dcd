"""The speed of MatMulNBits over a float MatMul, by rows, weight shape, bits, group size and accuracy level; prints a table.

The limits in the target `ort-cpu` (`weight_only_rows`) and docs/adr/0009 come from it. One thread, best of many runs.
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fewbit.runtimes.onnxruntime import OrtSession, open_session

SHAPES = ((64, 64), (128, 384), (256, 256), (384, 1536), (1024, 1024), (1024, 4096))
ROWS = (1, 2, 4, 8, 16, 128)
SECONDS = 0.1


def session(node: onnx.NodeProto, **constants: NDArray) -> OrtSession:
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, None]) for n in ("x", "y")]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "g", info[:1], info[1:], initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return open_session(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def seconds(run: OrtSession, x: NDArray[np.float32]) -> float:
    run.run({"x": x})
    best, until = np.inf, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        run.run({"x": x})
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    random = np.random.default_rng(0)
    print("inputs outputs bits group level", *(f"M={rows}" for rows in ROWS))
    for (inputs, outputs), bits, group, level in product(SHAPES, (2, 4, 8), (32, 128), (0, 4)):
        if group > inputs:
            continue
        blocks = inputs // group
        packed = random.integers(0, 256, (outputs, blocks, group * bits // 8)).astype(np.uint8)
        sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": group, "accuracy_level": level}
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **sizes)
        narrow = session(node, w=packed, s=np.full((outputs, blocks), 0.01, np.float32))
        weight = random.standard_normal((inputs, outputs)).astype(np.float32)
        real = session(helper.make_node("MatMul", ["x", "w"], ["y"]), w=weight)
        ratios = []
        for rows in ROWS:
            x = random.standard_normal((rows, inputs)).astype(np.float32)
            ratios.append(f"{seconds(real, x) / seconds(narrow, x):.2f}")
        print(inputs, outputs, bits, group, level, *ratios, flush=True)


if __name__ == "__main__":
    main()
