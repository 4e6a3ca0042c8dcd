"""What ExecuTorch executes of a file: which operators XNNPACK has, in how many parts, and what portable kernels run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fewbit.runtimes.execution import ExecutedOp, Execution, Kernels
from fewbit.runtimes.executorch_file import FileNode, read_methods

XNNPACK, PORTABLE = "XNNPACK", "ExecuTorch"
"""Whose kernels run an operator."""

_BACKENDS = {"XnnpackBackend": XNNPACK, "": PORTABLE}

# Operators whose work lies in products, and ONNX's name for them.
_HEAVY = {
    "Conv2d": "Conv",
    "DepthwiseConv2d": "Conv",
    "ConvTranspose2d": "ConvTranspose",
    "FullyConnected": "Gemm",
    "BatchMatrixMultiply": "MatMul",
    "aten::convolution": "Conv",
    "aten::addmm": "Gemm",
    "aten::linear": "Gemm",
    "aten::mm": "MatMul",
    "aten::bmm": "MatMul",
}
_CONVERSIONS = ("Convert", "quantized_decomposed::quantize", "quantized_decomposed::dequantize")
_MOVES = ("Static", "Copy", "Concatenate")


def executed_ops(source: str | Path | bytes) -> Execution:
    """What ExecuTorch executes for a file, in the order of the file.

    Names are XNNPACK's own inside of its parts, and those of ExecuTorch's operators elsewhere. Dtypes are those of the first
    input and of a weight: `int8 · int4` is a product whose activation is quantized, at every run where a Convert stands
    before it in float32. A backend that is not XNNPACK's is one operator of its name.

    Raises:
        ModelError: the file is damaged, or no file of ExecuTorch.
    """
    methods = read_methods(source)
    main = methods.get("forward") or next(iter(methods.values()))
    groups: dict[str, Counter[str]] = {name: Counter() for name in ("integer", "float_heavy", "conversions", "other")}
    counts: Counter[tuple[str, str, str]] = Counter()
    for part in main.parts:
        for node in part.nodes or [FileNode(part.backend, ())]:
            counts[node.op, _BACKENDS.get(part.backend, part.backend), " · ".join(filter(None, node.dtypes))] += 1
            group, name = _group(node)
            groups[group][name] += 1
    ops = [ExecutedOp(op, where, dtypes, count) for (op, where, dtypes), count in counts.items()]
    kernels = Kernels(**{name: dict(found.most_common()) for name, found in groups.items()})
    return Execution(ops, kernels, sum(bool(part.backend) for part in main.parts))


def _group(node: FileNode) -> tuple[str, str]:
    stem = node.op.split(".")[0]
    if stem.startswith(_CONVERSIONS):
        return "conversions", stem
    integer = bool(node.dtypes) and node.dtypes[0] == "int8"
    if stem in _HEAVY:
        return ("integer", stem) if integer else ("float_heavy", _HEAVY[stem])
    return ("integer" if integer and not stem.startswith(_MOVES) else "other"), stem
