"""A .tflite file as plain data: tensors, operators, signatures and metadata, all of it checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import ModelError
from fewbit.formats.litert import schema
from fewbit.formats.litert.kinds import IDENTIFIER
from fewbit.formats.litert.read.flat import FlatFile, Table

Sizes = tuple[int | None, ...]
"""A size for each axis; None where any is possible."""

_MOST_AXES = 16
_VECTORS = {"newShape": (0, "<i4"), "squeezeDims": (0, "<i4")}
"""Fields of options that lie outside of their table: slot and dtype. All others that are read are numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Scales for blocks of an axis: the tensors that hold them, and how many numbers share one."""

    scales: int
    zero_points: int | None
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Quantization:
    """real = scale · (stored − zero_point).

    scales: (1,) or (channels,) float32; zero_points: the same, int64. axis: of the channels, in the file's layout.
    """

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int
    blocks: Blocks | None = None

    def same(self, other: Quantization | None) -> bool:
        return (
            other is not None
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    dtype: None for resources and variants. sizes: None when even the rank is not stated. buffer: 0 for none.
    """

    index: int
    name: str
    dtype: ir.DataType | None
    sizes: Sizes | None
    buffer: int
    is_variable: bool
    quantization: Quantization | None
    sparsity: Table | None

    @property
    def rank(self) -> int | None:
        return None if self.sizes is None else len(self.sizes)

    @property
    def count(self) -> int | None:
        """How many numbers it has, if all sizes are known."""
        known = [s for s in self.sizes or () if s is not None]
        return None if self.sizes is None or len(known) < len(self.sizes) else math.prod(known)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator: `name` is its builtin name, or CUSTOM, and `custom` what it is called then. Inputs of -1 are left out.

    composite: the subgraph that says what a STABLEHLO_COMPOSITE does.
    """

    index: int
    name: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: str
    options: Table | None
    composite: int | None


@dataclass(frozen=True, slots=True)
class Subgraph:
    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Names for the inputs and outputs of a subgraph, each with the index of its tensor."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


class LiteRTFile:
    """A file, read as far as it is asked for.

    Raises:
        ModelError: on reading what breaks the format.
    """

    def __init__(self, data: bytes, label: str) -> None:
        self.flat = FlatFile(data, label)
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise ModelError(f"{label} is no LiteRT model: its bytes 4 to 8 are not TFL3; give a .tflite file")
        self.label = label
        self._root = self.flat.root()
        version = self._root.number(0, "I")
        if version != schema.VERSION:
            raise ModelError(
                f"{label} has version {version} of the LiteRT schema, and 3 is the only one in use; convert it again"
            )
        self.subgraph_count = self._root.lengths(2)
        self._subgraphs: dict[int, Subgraph] = {}

    @cached_property
    def codes(self) -> list[tuple[str, str]]:
        """The builtin name and the custom name of each operator code."""
        found = []
        for table in self._root.tables(1, "operator code"):
            old, new = table.number(0, "b"), table.number(3, "i")
            code = max(old, new)
            name = schema.operator_names().get(
                code, f"number {code}, which this version of ai-edge-litert does not know"
            )
            found.append((name, table.text(1)))
        return found

    @cached_property
    def buffers(self) -> list[tuple[int, int]]:
        """Where the bytes of each buffer begin, and how many they are. Large files have them behind the tables."""
        found = []
        for table in self._root.tables(4, "buffer"):
            outside, size = table.number(1, "Q"), table.number(2, "Q")
            found.append((outside, size) if outside > 1 else table.place(0))
        return found

    @cached_property
    def signatures(self) -> list[Signature]:
        return [
            Signature(t.text(2), t.number(4, "I"), self._names(t, 0), self._names(t, 1))
            for t in self._root.tables(7, "signature")
        ]

    @cached_property
    def metadata(self) -> list[tuple[str, int]]:
        """Names of metadata, and the buffer of each."""
        return [(t.text(0), t.number(1, "I")) for t in self._root.tables(6, "metadata")]

    @property
    def description(self) -> str:
        return self._root.text(3)

    def bytes_of(self, buffer: int) -> memoryview:
        """The bytes of a buffer. Raises ModelError when there is none of this number, or it lies outside of the file."""
        if not 0 <= buffer < len(self.buffers):
            raise self.flat.damaged(f"it has {len(self.buffers)} buffers and none of number {buffer}")
        return self.flat.span(*self.buffers[buffer], f"buffer {buffer}")

    def subgraph(self, index: int) -> Subgraph:
        """Raises ModelError when there is none, or its parts do not fit each other."""
        tables = self._subgraph_tables
        if not 0 <= index < len(tables):
            raise self.flat.damaged(f"it has {len(tables)} subgraphs and none of number {index}")
        if index not in self._subgraphs:
            self._subgraphs[index] = self._read(tables[index])
        return self._subgraphs[index]

    @cached_property
    def _subgraph_tables(self) -> list[Table]:
        return self._root.tables(2, "subgraph")

    def _read(self, table: Table) -> Subgraph:
        tensors = tuple(self._tensor(i, t) for i, t in enumerate(table.tables(0, "tensor")))
        operators = tuple(self._operator(i, t, len(tensors)) for i, t in enumerate(table.tables(3, "operator")))
        inputs, outputs = (self._indices(table, slot, len(tensors), least=0) for slot in (1, 2))
        return Subgraph(table.text(4), tensors, inputs, outputs, operators)

    def subgraph_name(self, index: int) -> str:
        return self._subgraph_tables[index].text(4)

    def options(self, operator: Operator, wanted: str) -> Any:
        """The options of an operator as the schema's object; its defaults where the file has none.

        Raises:
            ModelError: they are another operator's.
        """
        kind = getattr(schema.schema(), f"{wanted}T")
        if operator.options is None:
            return kind()
        if operator.options_type != wanted:
            raise self.flat.damaged(
                f"operator {operator.index} ({operator.name}) has {operator.options_type}, not {wanted}"
            )
        # A number in the last field could reach behind the file, and nothing else can.
        self.flat.span(operator.options.start + max(operator.options.fields, default=0), 4, operator.options.what)
        made, stored = kind(), getattr(schema.schema(), wanted)()
        stored.Init(self.flat.data, operator.options.start)
        for name, default in vars(made).items():
            if name in _VECTORS:
                setattr(made, name, operator.options.array(*_VECTORS[name]))
            elif default is not None:  # not a table
                setattr(made, name, getattr(stored, name[:1].upper() + name[1:])())
        return made

    def _names(self, table: Table, slot: int) -> tuple[tuple[str, int], ...]:
        return tuple((t.text(0), t.number(1, "I")) for t in table.tables(slot, "name of a signature"))

    def _indices(self, table: Table, slot: int, count: int, least: int) -> tuple[int, ...]:
        array = table.array(slot, "<i4")
        if array is None:
            return ()
        if array.size and not least <= array.min() <= array.max() < count:
            raise self.flat.damaged(f"{table.what} names tensors {array.min()} to {array.max()} of {count}")
        return tuple(array.tolist())

    def _operator(self, index: int, table: Table, count: int) -> Operator:
        code = table.number(0, "I")
        if code >= len(self.codes):
            raise self.flat.damaged(f"operator {index} has code {code} of {len(self.codes)}")
        name, custom = self.codes[code]
        number = table.number(3, "B")
        kind = schema.options_types().get(number, f"options of type {number}")
        options = table.table(4, f"the options of operator {index}") if number else None
        inputs = self._indices(table, 1, count, least=-1)
        outputs = self._indices(table, 2, count, least=0)
        composite = None
        if name == "STABLEHLO_COMPOSITE":
            described = table.table(12, f"the options of operator {index}")
            composite = 0 if described is None else described.number(1, "i")
        return Operator(index, name, custom, inputs, outputs, kind, options, composite)

    def _tensor(self, index: int, table: Table) -> Tensor:
        name = table.text(3)
        shape, dynamic = table.array(0, "<i4"), table.array(7, "<i4")
        if dynamic is not None and dynamic.size and (shape is None or dynamic.size == shape.size):
            shape = dynamic
        sizes: Sizes | None = None
        buffer = table.number(2, "I")
        if shape is not None:
            if shape.size > _MOST_AXES or int(shape.min(initial=0)) < -1:
                raise self.flat.damaged(f"tensor {index} ({name!r}) has the shape {shape[:_MOST_AXES].tolist()}")
            sizes = tuple(None if size < 0 else int(size) for size in shape)
        elif table.number(8, "B") or buffer:
            sizes = ()
        code = table.number(1, "b")
        quantization = table.table(4, f"the quantization of tensor {index}")
        return Tensor(
            index,
            name,
            schema.TENSOR_TYPES.get(code),
            sizes,
            buffer,
            bool(table.number(5, "B")),
            None if quantization is None else self._quantization(quantization, name, sizes),
            table.table(6, f"the sparsity of tensor {index}"),
        )

    def _quantization(self, table: Table, name: str, sizes: Sizes | None) -> Quantization | None:
        scales, zeros, axis = table.array(2, "<f4"), table.array(3, "<i8"), table.number(6, "i")
        details = table.number(4, "B")
        if details:
            return self._blockwise(table, name, details)
        if scales is None or not scales.size:
            return None
        if zeros is None or not zeros.size:
            zeros = np.zeros(scales.size, np.int64)
        if zeros.size != scales.size:
            zeros = np.broadcast_to(zeros, scales.shape) if zeros.size == 1 else zeros
        if not (np.isfinite(scales).all() and float(scales.min(initial=0)) >= 0 and zeros.size == scales.size):
            raise self.flat.damaged(
                f"tensor {name!r} has {scales.size} scales, not all of them numbers, and {zeros.size} zero points"
            )
        if scales.size > 1 and (sizes is None or not 0 <= axis < len(sizes) or sizes[axis] != scales.size):
            raise self.flat.damaged(f"tensor {name!r} of shape {sizes} has {scales.size} scales along axis {axis}")
        return Quantization(scales.astype(np.float32), zeros.astype(np.int64), axis)

    def _blockwise(self, table: Table, name: str, details: int) -> Quantization:
        found = table.table(5, f"the quantization of {name!r}")
        if details != 2 or found is None:
            raise ModelError(
                f"{self.label}: tensor {name!r} has a quantization of another kind ({details}) than scales for axes or blocks"
            )
        zeros = found.number(1, "i", -1)
        blocks = Blocks(found.number(0, "i"), zeros if zeros > 0 else None, found.number(2, "i"))
        return Quantization(np.zeros(0, np.float32), np.zeros(0, np.int64), table.number(6, "i"), blocks)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises ModelError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
