"""What a LiteRT file holds, read from its flatbuffer: tensors, how they are quantized, operators in the order of execution."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from fewbit.extras import load_extra
from fewbit.runtimes.arena import Arena, Lifetime, plan_arena

# Of one element, where its name does not end in the number.
_BITS = {"BOOL": 8, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8, "STRING": 0, "RESOURCE": 0, "VARIANT": 0}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of a graph.

    dtype: in lower case as the schema names it, `int8` or `float32`. shape: as it is stored, with 1 for sizes that may be
    anything. bytes: at that shape. constant: whether the file holds its values. variable: whether it outlives a run.
    quantized: whether its integers stand for real numbers. scales, zero_points: as many as there are channels along `axis`,
    one for the whole tensor, or none (also where they are stored in tensors of their own, for weights in blocks).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    constant: bool
    variable: bool
    quantized: bool
    scales: tuple[float, ...] = field(repr=False)
    zero_points: tuple[int, ...] = field(repr=False)
    axis: int


@dataclass(frozen=True, slots=True)
class FileOp:
    """An operator: its name in the schema, and the indices of its tensors, -1 for an input that is left out."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileGraph:
    """A graph: tensors, operators in the order of execution, and the indices of its ends."""

    tensors: Sequence[FileTensor]
    ops: Sequence[FileOp]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_graphs(path: str | Path) -> list[FileGraph]:
    """All graphs of a file, the main one first; weights are not read.

    The file has to be one that the runtime loads: it checks what is assumed here.
    """
    schema = load_extra("ai_edge_litert.schema_py_generated", "reading a LiteRT model")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = schema.Model.GetRootAs(data, 0)
        ops = _op_names(schema, model)
        types = _names(schema.TensorType)
        held = [_has_data(model.Buffers(i)) for i in range(model.BuffersLength())]
        return [_graph(model.Subgraphs(i), ops, types, held) for i in range(model.SubgraphsLength())]


def arena_of(graphs: Sequence[FileGraph]) -> Arena:
    """The memory that activations take on a microcontroller: all tensors but constants, at the shapes that are stored.

    Inputs are there from the first step until they are read, outputs until the end. Variables keep their place. What kernels
    need for themselves, and the bookkeeping of the interpreter, come on top. Other graphs than the main one (branches, bodies
    of loops) are taken to be alive throughout.
    """
    lifetimes = _lifetimes(graphs[0])
    end = max((tensor.last for tensor in lifetimes), default=0)
    inner = [plan_arena(_lifetimes(graph)).bytes for graph in graphs[1:]]
    return plan_arena([*lifetimes, *(Lifetime(f"graph {i}", size, 0, end) for i, size in enumerate(inner, 1))])


def _lifetimes(graph: FileGraph) -> list[Lifetime]:
    end = len(graph.ops)
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, 0)
    for step, op in enumerate(graph.ops, 1):
        for index in op.outputs:
            first.setdefault(index, step)
        for index in (*op.inputs, *op.outputs):
            last[index] = step
    last |= dict.fromkeys(graph.outputs, end)
    found = []
    for index, tensor in enumerate(graph.tensors):
        if tensor.variable:
            found.append(Lifetime(tensor.name, tensor.bytes, 0, end))
        elif index in first:
            found.append(Lifetime(tensor.name, tensor.bytes, first[index], last[index]))
    return found


def _graph(graph: Any, ops: Sequence[str], types: dict[int, str], held: Sequence[bool]) -> FileGraph:
    tensors = [_tensor(graph.Tensors(i), types, held) for i in range(graph.TensorsLength())]
    operators = []
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        inputs = tuple(op.Inputs(j) for j in range(op.InputsLength()))
        outputs = tuple(op.Outputs(j) for j in range(op.OutputsLength()))
        operators.append(FileOp(ops[op.OpcodeIndex()], inputs, outputs))
    ends = [tuple(at(j) for j in range(n)) for at, n in _ends(graph)]
    return FileGraph(tensors, operators, ends[0], ends[1])


def _ends(graph: Any) -> list[tuple[Any, int]]:
    return [(graph.Inputs, graph.InputsLength()), (graph.Outputs, graph.OutputsLength())]


def _tensor(tensor: Any, types: dict[int, str], held: Sequence[bool]) -> FileTensor:
    kind = types[tensor.Type()]
    shape = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
    parameters = tensor.Quantization()
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis, in_blocks = 0, False
    if parameters is not None:
        in_blocks = parameters.DetailsType() != 0
        scales = tuple(parameters.Scale(i) for i in range(parameters.ScaleLength()))
        zeros = tuple(parameters.ZeroPoint(i) for i in range(parameters.ZeroPointLength()))
        axis = parameters.QuantizedDimension()
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    size = -(-prod(shape) * _bits(kind) // 8)
    return FileTensor(
        name,
        kind.lower(),
        shape,
        size,
        held[tensor.Buffer()],
        bool(tensor.IsVariable()),
        bool(scales) or in_blocks,
        scales,
        zeros,
        axis,
    )


def _bits(kind: str) -> int:
    """INT4 → 4; a COMPLEX64 is 64 bits as a whole."""
    return _BITS[kind] if kind in _BITS else int("".join(c for c in kind if c.isdigit()))


def _has_data(buffer: Any) -> bool:
    # Offset: the data of files over 2 GB lie behind the flatbuffer.
    return bool(buffer.DataLength() or buffer.Offset() > 1)


def _op_names(schema: Any, model: Any) -> list[str]:
    builtin = _names(schema.BuiltinOperator)
    names = []
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        # Codes up to 127 were stored as one byte once, and new files fill both fields.
        name = builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        names.append(code.CustomCode().decode("utf-8", "replace") if name == "CUSTOM" and code.CustomCode() else name)
    return names


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}
