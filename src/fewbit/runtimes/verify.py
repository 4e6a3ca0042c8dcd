"""Verification: load the exported model, run it, list the kernels that execute, and compare its outputs with float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fewbit.errors import DataError, VerificationError
from fewbit.measure.answers import Views
from fewbit.measure.compare import OutputComparison
from fewbit.runtimes.execution import ExecutedOp, Execution, Kernels
from fewbit.runtimes.onnxruntime import executed_graph
from fewbit.runtimes.session import Feed, Outputs, Session

# What the optimized graph of ONNX Runtime calls the kernels of heavy ops that compute in float.
_FLOAT_KERNELS = {
    "Conv": "Conv",
    "FusedConv": "Conv",
    "ConvTranspose": "ConvTranspose",
    "Gemm": "Gemm",
    "FusedGemm": "Gemm",
    "MatMul": "MatMul",
    "FusedMatMul": "MatMul",
    "TransposeMatMul": "MatMul",
    "LSTM": "LSTM",
    "GRU": "GRU",
    "RNN": "RNN",
}
_INTEGER_KERNELS = {
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulInteger",
    "ConvInteger",
    "QLinearAdd",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearConcat",
    "QLinearSoftmax",
    "NhwcMaxPool",
    "QLinearReduceMean",
    "QLinearWhere",
    "QAttention",
    "MatMulNBits",
    "GatherBlockQuantized",
}
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


def execution(model: str | Path) -> Execution:
    """What ONNX Runtime executes for a model, as the graph that it optimized says."""
    ops = [op for _, _, op in executed_graph(model)]
    groups: dict[str, Counter[str]] = {name: Counter() for name in ("integer", "float_heavy", "conversions", "other")}
    for op in ops:
        if op in _INTEGER_KERNELS:
            groups["integer"][op] += 1
        elif op in _FLOAT_KERNELS:
            groups["float_heavy"][_FLOAT_KERNELS[op]] += 1
        elif op in _CONVERSIONS:
            groups["conversions"][op] += 1
        else:
            groups["other"][op] += 1
    found = Kernels(**{name: dict(counts.most_common()) for name, counts in groups.items()})
    return Execution([ExecutedOp(op, "ONNX Runtime", "", count) for op, count in Counter(ops).items()], found)


def kernels(model: str | Path) -> Kernels:
    """The kernels that ONNX Runtime executes for a model."""
    return execution(model).kernels


def check_fallbacks(found: Kernels, float_expected: Mapping[str, int], runtime: str = "ONNX Runtime") -> None:
    """The runtime must not have put a planned integer node back to float.

    Args:
        float_expected: how many nodes of each heavy op the plan leaves in float arithmetic.
        runtime: how the message calls it.

    Raises:
        VerificationError: more float kernels than the plan says.
    """
    # The runtime turns MatMul with Add into Gemm: the two count together.
    for group in (("MatMul", "Gemm"), ("Conv",), ("ConvTranspose",), ("LSTM",), ("GRU",), ("RNN",)):
        executed = sum(found.float_heavy.get(op, 0) for op in group)
        planned = sum(float_expected.get(op, 0) for op in group)
        if executed > planned:
            raise VerificationError(
                f"{runtime} runs {executed} {'/'.join(group)} in float where the plan has {planned}: it did not fuse "
                f"the others; report this model, or leave them in float with --exclude {group[0]}"
            )


def compare_outputs(
    real: Session, quantized: Session, feeds: Iterable[Feed], views: Views | None = None
) -> list[OutputComparison]:
    """Every output of the quantized model against the float one, as `views` show it.

    Raises:
        VerificationError: the quantized model cannot run, or gives NaN or infinity where float does not.
    """
    return compare_with(real.outputs, ((feed, real.run(feed)) for feed in feeds), quantized, views)


def compare_with(
    names: Iterable[str], wanted: Iterable[tuple[Feed, Outputs]], quantized: Session, views: Views | None = None
) -> list[OutputComparison]:
    """As `compare_outputs`, with the float outputs of each feed given, in the order of their names."""
    comparisons = [OutputComparison(name) for name in names]
    for feed, outputs in wanted:
        try:
            given = quantized.run(feed)
        except DataError as error:
            raise VerificationError(f"the quantized model loads but does not run: {error}") from error
        for comparison, a, b in zip(comparisons, outputs, given, strict=True):
            if a.shape != b.shape:
                raise VerificationError(f"output {comparison.name} has shape {b.shape}, in float {a.shape}")
            view = (views or {}).get(comparison.name, np.asarray)
            comparison.update(view(a), view(b))
    for comparison in comparisons:
        if comparison.nonfinite:
            raise VerificationError(f"output {comparison.name} holds {comparison.nonfinite} NaN or infinite values")
    return comparisons
