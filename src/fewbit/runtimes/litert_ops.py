"""What LiteRT executes of a file: which kernels run each operator, in which arithmetic, and the memory that it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewbit.runtimes.execution import ExecutedOp, Execution, Kernels
from fewbit.runtimes.litert import Kernels as KernelSet
from fewbit.runtimes.litert import loading, open_interpreter
from fewbit.runtimes.litert_file import FileGraph, FileOp, arena_of, read_graphs

XNNPACK, LITERT = "XNNPACK", "LiteRT"
"""Whose kernels run an operator."""

# Operators whose work lies in products, and ONNX's name for them.
_HEAVY = {
    "CONV_2D": "Conv",
    "DEPTHWISE_CONV_2D": "Conv",
    "CONV_3D": "Conv",
    "TRANSPOSE_CONV": "ConvTranspose",
    "CONV_3D_TRANSPOSE": "ConvTranspose",
    "FULLY_CONNECTED": "Gemm",
    "BATCH_MATMUL": "MatMul",
    "LSTM": "LSTM",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "LSTM",
    "RNN": "RNN",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "RNN",
    "BIDIRECTIONAL_SEQUENCE_RNN": "RNN",
}
_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
# These do not look at the numbers that they move.
_MOVES = {
    *(
        "RESHAPE",
        "TRANSPOSE",
        "SLICE",
        "STRIDED_SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "EXPAND_DIMS",
        "GATHER",
        "GATHER_ND",
    ),
    *(
        "PACK",
        "UNPACK",
        "TILE",
        "SPACE_TO_DEPTH",
        "DEPTH_TO_SPACE",
        "SPACE_TO_BATCH_ND",
        "BATCH_TO_SPACE_ND",
        "REVERSE_V2",
    ),
    *("BROADCAST_TO", "DYNAMIC_UPDATE_SLICE", "SHAPE", "RANK", "CAST", "BITCAST", "ARG_MAX", "ARG_MIN"),
}
_DELEGATE = "DELEGATE"
_NOTHING = -1  # the index of an input that is left out


def executed_ops(path: str | Path, *, kernels: KernelSet = "xnnpack") -> Execution:
    """What LiteRT executes for a file, with XNNPACK where it can, or with other kernels.

    Heavy operators with float activations and integer weights count as integer: XNNPACK and LiteRT quantize such activations
    at every run. Which operators XNNPACK took follows from the tensors that enter and leave each of its parts: those on the
    way from its outputs back to its inputs. Branches and bodies of loops are not looked into.

    Raises:
        ModelError: LiteRT cannot load it.
        MissingExtraError: ai-edge-litert is not installed.
    """
    with loading(path):
        nodes = open_interpreter(path, kernels=kernels)._get_ops_details()
    graphs = read_graphs(path)
    main = graphs[0]
    parts = [node for node in nodes[len(main.ops) :] if node["op_name"] == _DELEGATE]
    taken = _taken(main, parts)
    counts = Counter((op.name, XNNPACK if i in taken else LITERT, _dtypes(main, op)) for i, op in enumerate(main.ops))
    ops = [ExecutedOp(name, where, dtypes, count) for (name, where, dtypes), count in counts.items()]
    return Execution(ops, _kernels(main), len(parts), arena_of(graphs))


def float_ops(path: str | Path) -> list[str]:
    """The operators of the main graph that read or write floats, each with what it makes, but for conversions at the ends."""
    graph = read_graphs(path)[0]
    ends = {*graph.inputs, *graph.outputs}
    found = []
    for op in graph.ops:
        floats = [i for i in (*op.inputs, *op.outputs) if i != _NOTHING and graph.tensors[i].dtype.startswith("float")]
        if floats and not (op.name in _CONVERSIONS and ends.issuperset(floats)):
            found.append(f"{op.name} ({graph.tensors[op.outputs[0]].name})")
    return found


def _kernels(graph: FileGraph) -> Kernels:
    groups: dict[str, Counter[str]] = {name: Counter() for name in ("integer", "float_heavy", "conversions", "other")}
    for op in graph.ops:
        activation, weight = _operands(graph, op)
        integers = [index is not None and graph.tensors[index].quantized for index in (activation, weight)]
        heavy = op.name in _HEAVY
        if op.name in _CONVERSIONS:
            groups["conversions"][op.name] += 1
        elif op.name not in _MOVES and (integers[0] or (heavy and integers[1])):
            groups["integer"][op.name] += 1
        elif heavy:
            groups["float_heavy"][_HEAVY[op.name]] += 1
        else:
            groups["other"][op.name] += 1
    return Kernels(**{name: dict(found.most_common()) for name, found in groups.items()})


def _operands(graph: FileGraph, op: FileOp) -> tuple[int | None, int | None]:
    """The first input that is computed, and the first that is a constant."""
    given = [index for index in op.inputs if index != _NOTHING]
    activation = next((i for i in given if not graph.tensors[i].constant), None)
    return activation, next((i for i in given if graph.tensors[i].constant), None)


def _dtypes(graph: FileGraph, op: FileOp) -> str:
    activation, weight = _operands(graph, op)
    shown = [activation, weight if op.name in _HEAVY else None]
    return " · ".join(graph.tensors[index].dtype for index in shown if index is not None)


def _taken(graph: FileGraph, parts: Sequence[Mapping[str, Any]]) -> set[int]:
    """The positions of the operators inside of the parts."""
    maker = {tensor: i for i, op in enumerate(graph.ops) for tensor in op.outputs}
    taken: set[int] = set()
    for part in parts:
        given = {int(i) for i in part["inputs"]}
        waiting = [int(i) for i in part["outputs"]]
        while waiting:
            position = maker.get(waiting.pop())
            if position is not None and position not in taken:
                taken.add(position)
                waiting += [i for i in graph.ops[position].inputs if i not in given]
    return taken
