"""ONNX's own node tests (`onnx.backend.test`) on the torch executor. Run as a script it prints the score and the failures.

PYTHONPATH=src python -m tests.torchgraph.node_cases [NAME ...]
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fewbit.errors import FewbitError

BFLOAT16_RTOL = 2**-6  # that of onnx.backend.test.runner: two units in the last place

LISTED = Path(__file__).with_name("node_failures.tsv")
"""Cases that fail, each with the reason."""

EDGE_OPS: dict[str, str] = {
    "elementwise": (
        "Abs Acos Add Asin Atan Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
        "HardSigmoid HardSwish LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg PRelu Pow Reciprocal "
        "Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum SwiGLU Swish Tan Tanh ThresholdedRelu "
        "Where And Or Not Xor IsNaN IsInf BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Cast CastLike"
    ),
    "along axes": (
        "ArgMax ArgMin CumSum LogSoftmax ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
        "ReduceMin ReduceProd ReduceSum ReduceSumSquare Softmax TopK"
    ),
    "layers": (
        "Attention AveragePool BatchNormalization CausalConvWithState Conv ConvTranspose DeformConv Einsum GRU "
        "Gemm GlobalAveragePool GlobalMaxPool GroupNormalization InstanceNormalization LRN LSTM LayerNormalization "
        "LinearAttention LpNormalization LpPool MatMul MaxPool MeanVarianceNormalization RMSNormalization RNN "
        "RotaryEmbedding"
    ),
    "quantized": (
        "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul QuantizeLinear"
    ),
    "movement and shapes": (
        "CenterCropPad Col2Im Compress Concat Constant ConstantOfShape DepthToSpace Dropout Expand EyeLike Flatten "
        "Gather GatherElements GatherND Identity NonZero OneHot Pad Range Reshape ReverseSequence ScatterElements "
        "ScatterND Shape Size Slice SpaceToDepth Split Squeeze TensorScatter Tile Transpose Trilu Unsqueeze"
    ),
    "images, sound, control flow": (
        "AffineGrid DFT GridSample If Loop MelWeightMatrix NonMaxSuppression Resize RoiAlign STFT Scan"
    ),
}
"""What models of vision, sound and text on edge devices are made of. A case counts when all its operators are here."""


@cache
def cases() -> dict[str, Any]:
    """Every node test of the installed onnx, by name: its model and its data are in it."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy, about the overflows that some cases are about
        return {case.name: case for case in load_model_tests(kind="node")}


def operators(case: Any) -> set[str]:
    """Operators of a case's model, with their domain in front when it is not ONNX's own."""
    return {f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in case.model.graph.node}


def reason(case: Any, slack: float = 0.0) -> str | None:
    """Why a case fails on the torch executor, in one line; None when it passes.

    Args:
        slack: how far numbers may be off besides the tolerance of the case, in parts of the largest expected one.
    """
    import torch

    from fewbit.graph.hub import Hub
    from fewbit.graph.load import load
    from fewbit.graph.rules.upgrade_opset import OLDEST
    from fewbit.torchgraph.module import to_torch

    try:
        hub: Hub = load(case.model, normalize=False)
        module = to_torch(hub if hub.opset >= OLDEST or hub.opset == 0 else case.model)
        for inputs, expected in case.data_sets:
            with torch.no_grad():
                made = module(*map(_feed, inputs))
            for got, wanted in zip(made, expected, strict=True):
                difference = _difference(got, wanted, case.rtol, case.atol, slack)
                if difference:
                    return difference
    except FewbitError as error:
        return str(error)
    return None


def _feed(value: Any) -> Any:
    from fewbit.torchgraph.dtypes import to_tensor

    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if isinstance(value, list):
        return [_feed(v) for v in value]
    return value if value is None else to_tensor(np.array(value))


def _difference(got: Any, wanted: Any, rtol: float, atol: float, slack: float) -> str | None:
    """How a result differs from what is expected; None when it does not. 2- and 4-bit types come in their containers."""
    from fewbit.torchgraph.dtypes import to_array

    if isinstance(wanted, onnx.TensorProto):
        wanted = onnx.numpy_helper.to_array(wanted)
    if wanted is None or got is None:
        return None if wanted is None and got is None else "one of the two is an empty optional"
    if isinstance(wanted, list) or isinstance(got, list):
        if not isinstance(wanted, list) or not isinstance(got, list) or len(got) != len(wanted):
            return "the sequences differ in length"
        return next((d for g, w in zip(got, wanted, strict=True) if (d := _difference(g, w, rtol, atol, slack))), None)
    wanted = np.asarray(wanted)
    numbers = to_array(got)
    if numbers.shape != wanted.shape:
        return f"shape {numbers.shape} instead of {wanted.shape}"
    if numbers.dtype != wanted.dtype and wanted.dtype.kind != "V":
        return f"type {numbers.dtype} instead of {wanted.dtype}"
    if wanted.dtype.kind == "V" or numbers.dtype.kind == "V":
        if wanted.dtype.name == "bfloat16":
            rtol = max(rtol, BFLOAT16_RTOL)
        numbers, wanted = numbers.astype(np.float32), wanted.astype(np.float32)
    if slack:
        atol = max(atol, slack * float(np.abs(wanted).max()))
    if not np.allclose(numbers, wanted, rtol=rtol, atol=atol, equal_nan=True):
        worst = np.nanmax(np.abs(numbers.astype(np.float64) - wanted.astype(np.float64)))
        return f"the numbers differ by up to {worst:.3g}"
    return None


def onnx_runtime_loads(case: Any) -> bool:
    """Whether ONNX Runtime makes a session of a case's model."""
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        ort.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.NotImplemented, state.InvalidGraph, state.InvalidArgument, state.RuntimeException):
        return False
    return True


def failures(names: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """(case, reason) for each that fails."""
    for name, case in cases().items():
        if (not names or name in names) and (why := reason(case)) is not None:
            yield name, why


def edge_cases() -> set[str]:
    """Names of the cases of the edge operators that ONNX Runtime loads, without those that say the same in other words."""
    edge = {name for names in EDGE_OPS.values() for name in names.split()}
    return {
        name
        for name, case in cases().items()
        if not name.endswith("_expanded") and operators(case) <= edge and onnx_runtime_loads(case)
    }


def listed() -> dict[str, str]:
    """Case -> reason, of those that are known to fail. `rounding` is a reason that depends on the processor."""
    lines = LISTED.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def score(failed: Collection[str], among: Collection[str]) -> str:
    passed = len(set(among) - set(failed))
    return f"{passed} of {len(among)} ({passed / len(among):.1%})"


if __name__ == "__main__":
    found = dict(failures(sys.argv[1:]))
    for name, why in found.items():
        print(f"{name}\t{why}")
    if len(sys.argv) == 1:
        print(
            f"all cases: {score(found, cases())}; edge operators that ONNX Runtime loads: {score(found, edge_cases())}"
        )
