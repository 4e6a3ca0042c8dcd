"""What an ExecuTorch file holds, read from its flatbuffers (program.fbs, and XNNPACK's schema.fbs, of ExecuTorch 1.5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewbit.errors import ModelError
from fewbit.runtimes.flat_table import FlatTable

MAGIC = b"ET12"
"""Of a file of ExecuTorch, at offset 4."""

_HEADER, _XNNPACK_HEADER = b"eh00", b"XH00"
_TENSOR, _TEXT = 5, 6  # in the union of values
_KERNEL_CALL, _DELEGATE_CALL = 1, 2  # in the union of instructions
_IN_SEGMENT = 1

_SCALARS = (
    *(
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "",
        "",
        "",
        "bool",
        "",
        "",
        "",
        "bfloat16",
    ),
    *("", "", "", "", "", "", "", "", "", "", "", "uint16", "uint32", "uint64"),
)
"""By their numbers in scalar_type.fbs; empty for what no tensor of numpy has."""

_XNNPACK_TYPES = (
    *("", "float32", "float16", "int8", "uint8", "int32", "int8", "int32", "int4", "int8", "int4", "int8", "int32"),
    *("float32", "bfloat16"),
)
"""By their numbers in schema.fbs, whatever the number of scales is."""

# XNNPACK's nodes in the order of their union -> the field that has the first input, as many as differ from 0.
_NODES = (
    *("Add", "FullyConnected", "Softmax", "Sigmoid", "StaticTranspose", "Clamp", "Conv2d", "Div"),
    *("StaticResizeBilinear2D", "StaticConstantPad", "AvgPooling2d", "Minimum", "DepthwiseConv2d", "MaxPooling2d"),
    *("Multiply", "Subtract", "Floor", "Convert", "GlobalAvgPooling2d", "StaticReshape", "ArgMaxPooling2d"),
    *("SquareRoot", "Ceiling", "Hardswish", "LeakyReLU", "Maximum", "Negate", "Square", "ELU", "Abs", "PReLU"),
    *("Concatenate2", "Concatenate3", "Concatenate4", "StaticSlice", "ScaledDotProductAttention"),
    *("BatchMatrixMultiply", "Concatenate5", "ConvTranspose2d", "ReciprocalSquareRoot", "Log", "Gelu", "Tanh", "Exp"),
    *("Sin", "Copy", "Cos"),
)
_FIRST_INPUT = {
    **dict.fromkeys(("StaticTranspose", "StaticResizeBilinear2D", "StaticReshape"), 2),
    **dict.fromkeys(("StaticConstantPad", "StaticSlice"), 3),
    **dict.fromkeys(("Conv2d", "DepthwiseConv2d", "ConvTranspose2d"), 15),
    **dict.fromkeys(("AvgPooling2d", "MaxPooling2d"), 10),
    **dict.fromkeys(("LeakyReLU", "ELU"), 1),
    **dict.fromkeys(("Concatenate2", "Concatenate3", "Concatenate4", "Concatenate5"), 1),
    "ArgMaxPooling2d": 6,
}
_WEIGHTED = ("FullyConnected", "Conv2d", "DepthwiseConv2d", "ConvTranspose2d", "BatchMatrixMultiply")


@dataclass(frozen=True, slots=True)
class FileEnd:
    """An input or output: its dtype, empty where it is no tensor, and its sizes. open: whether they are upper bounds."""

    dtype: str
    shape: tuple[int, ...]
    open: bool


@dataclass(frozen=True, slots=True)
class FileNode:
    """An operator: its name, and the dtypes of its first input and, where the work lies in products, of its weight."""

    op: str
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilePart:
    """What runs as a whole: one kernel of ExecuTorch (backend empty), or the nodes that a backend has."""

    backend: str
    nodes: Sequence[FileNode]


@dataclass(frozen=True, slots=True)
class FileMethod:
    """A method in the order of execution. text: what it gives, where that is one text."""

    name: str
    inputs: Sequence[FileEnd]
    outputs: Sequence[FileEnd]
    parts: Sequence[FilePart]
    text: str


def read_methods(source: str | Path | bytes) -> dict[str, FileMethod]:
    """All methods of a file by their names; weights are not read.

    Raises:
        ModelError: the file is damaged, or no file of ExecuTorch.
    """
    name = "the model" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror}") from error
    if data[4:8] != MAGIC:
        raise ModelError(f"{name} is no ExecuTorch file: bytes 4 to 8 are {data[4:8]!r}, not {MAGIC!r}")
    try:
        methods = [_method(data, plan) for plan in FlatTable.root(data).tables(1)]
    except (struct.error, IndexError, MemoryError) as error:
        raise ModelError(f"{name} is a damaged ExecuTorch file ({error}); copy it again") from error
    if not methods:
        raise ModelError(f"{name} is an ExecuTorch file without methods; write it again")
    return {method.name: method for method in methods}


def _method(data: bytes, plan: FlatTable) -> FileMethod:
    values = [(value.number(0, "B"), value.table(1)) for value in plan.tables(2)]
    inputs, outputs = ([values[i] for i in plan.numbers(field, "i")] for field in (3, 4))
    kernels = [".".join(filter(None, (op.text(0), op.text(1)))) for op in plan.tables(6)]
    delegates = list(plan.tables(7))
    parts = []
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            kind, call = instruction.number(0, "B"), instruction.table(1)
            if kind == _KERNEL_CALL and call is not None:
                dtypes = [_end(*values[i]).dtype for i in call.numbers(1, "i") if values[i][0] == _TENSOR]
                parts.append(FilePart("", [FileNode(kernels[call.number(0, "i")], tuple(dtypes[:1]))]))
            elif kind == _DELEGATE_CALL and call is not None:
                parts.append(_part(data, delegates[call.number(0, "i")]))
    texts = [table.text(0) for kind, table in outputs if kind == _TEXT and table is not None]
    return FileMethod(plan.text(0), [_end(*v) for v in inputs], [_end(*v) for v in outputs], parts, "".join(texts[:1]))


def _end(kind: int, table: FlatTable | None) -> FileEnd:
    if kind != _TENSOR or table is None:
        return FileEnd("", (), False)
    return FileEnd(_SCALARS[table.number(0, "b")], table.numbers(2, "i"), table.number(8, "b") != 0)


def _part(data: bytes, delegate: FlatTable) -> FilePart:
    backend, place = delegate.text(0), delegate.table(1)
    if backend != "XnnpackBackend" or place is None:
        return FilePart(backend, [])
    index = place.number(1, "I")
    if place.number(0, "b") == _IN_SEGMENT:
        segment = list(FlatTable.root(data).tables(4))[index]
        if data[8:12] != _HEADER:
            raise struct.error("segments without a header that says where they begin")
        start = struct.unpack_from("<Q", data, 24)[0] + segment.number(0, "Q")
        payload = memoryview(data)[start : start + segment.number(1, "Q")]
    else:
        inline = list(FlatTable.root(data).tables(3))[index]
        payload = memoryview(bytes(inline.numbers(0, "B")))
    if payload[4:8] != _XNNPACK_HEADER:
        raise struct.error("a part of XNNPACK without its header")
    offset, size = struct.unpack_from("<II", payload, 10)
    return FilePart(backend, _xnnpack_nodes(FlatTable.root(payload[offset : offset + size])))


def _xnnpack_nodes(graph: FlatTable) -> list[FileNode]:
    types: dict[int, str] = {}
    for value in graph.tables(2):
        tensor = value.table(1)
        if value.number(0, "B") == 2 and tensor is not None:  # quantized: around the plain one
            tensor = tensor.table(0)
        if tensor is not None:
            types[tensor.number(6, "I")] = _XNNPACK_TYPES[tensor.number(0, "h")]
    nodes = []
    for node in graph.tables(1):
        name, table = _NODES[node.number(0, "B") - 1], node.table(1)
        first = _FIRST_INPUT.get(name, 0)
        fields = (first, first + 1) if name in _WEIGHTED else (first,)
        found = [types.get(table.number(field, "I"), "") for field in fields] if table is not None else []
        nodes.append(FileNode(name, tuple(found)))
    return nodes
