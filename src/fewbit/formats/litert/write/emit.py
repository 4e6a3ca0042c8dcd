"""The flatbuffer's tensors and operators under construction, and the layouts in which each logical tensor is there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fewbit.errors import ModelError
from fewbit.formats.litert.write.graph import Array, Graph, Op, Quant, Tensor
from fewbit.formats.litert.write.layout import Layout, between, identity, only_ones_move, permuted

INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(slots=True, eq=False)
class Stored:
    """A tensor of the file: `axis` of its quant is the file's axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quant: Quant | None = None
    data: Array | None = None


@dataclass(slots=True, eq=False)
class Call:
    """An operator of the file."""

    builtin: str
    inputs: list[int]
    outputs: list[int]
    options: str
    fields: dict[str, Any]


class Emitter:
    """Collects tensors and operators; each logical tensor is known in one or more layouts."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.readers()
        self.tensors: list[Stored] = []
        self.calls: list[Call] = []
        self.notes = graph.notes
        self.scrambled: dict[Tensor, Array] = {}
        self.widened: dict[int, int] = {}
        self._forms: dict[Tensor, dict[Layout, int]] = {}
        self._constants: dict[tuple[Any, ...], int] = {}
        self._halves: dict[int, int] = {}
        self._names: set[str] = {t.name for t in (*graph.inputs, *graph.outputs)}
        self._outputs = set(graph.outputs)
        for tensor in graph.inputs:
            self._forms[tensor] = {
                identity(tensor.rank): self._store(Stored(tensor.name, *_kind(tensor), tensor.quant))
            }

    # --- tensors ----------------------------------------------------------------------------------------------------

    def _store(self, stored: Stored) -> int:
        self.tensors.append(stored)
        return len(self.tensors) - 1

    def name(self, hint: str) -> str:
        """A name that no tensor of the file has."""
        name, count = hint, 0
        while name in self._names:
            count += 1
            name = f"{hint}_{count}"
        self._names.add(name)
        return name

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensors[index].shape

    def temporary(self, hint: str, shape: Sequence[int], like: Tensor | Stored, *, dtype: str | None = None) -> int:
        """A new tensor of the type and scale of another."""
        quant = like.quant if dtype is None else None
        return self._store(Stored(self.name(hint), tuple(shape), dtype or like.dtype, quant))

    def constant(self, data: Array, dtype: str, quant: Quant | None = None, hint: str = "constant") -> int:
        """A constant; equal ones are stored once.

        Raises:
            ModelError: an int64 of the hub that does not fit int32.
        """
        data = np.asarray(data)
        if dtype == "int32":
            wide = data[(data < INT32[0]) | (data > INT32[1])] if data.size else data
            if wide.size:
                raise ModelError(
                    f"constant {hint!r} holds {wide.reshape(-1)[0]}, which does not fit int32, and LiteRT computes with int32 "
                    f"where ONNX has int64; export the model with smaller numbers"
                )
            data = data.astype(np.int32)
        data = np.asarray(data, order="C")
        key = (
            dtype,
            data.shape,
            digest(data.tobytes()),
            None if quant is None else (quant.scale.tobytes(), quant.zero_point.tobytes(), quant.axis, quant.block),
        )
        if key not in self._constants:
            self._constants[key] = self._store(Stored(self.name(hint), data.shape, dtype, quant, data))
        return self._constants[key]

    def integers(self, values: Sequence[int], hint: str = "sizes") -> int:
        """A constant int32 vector: axes, sizes, permutations."""
        return self.constant(np.array(values, np.int64).reshape(-1), "int32", hint=hint)

    def like(self, tensor: Tensor, number: float, hint: str = "number") -> int:
        """A constant of one number in the type of a float tensor."""
        return self.constant(
            np.array(number, np.int64 if tensor.dtype == "int32" else np.float32), tensor.dtype, hint=hint
        )

    # --- layouts of logical tensors ---------------------------------------------------------------------------------

    def has(self, tensor: Tensor) -> bool:
        """Whether an operator has made it."""
        return tensor in self._forms

    def layout(self, tensor: Tensor) -> Layout:
        """The layout in which a tensor was made; the hub's own for constants."""
        forms = self._forms.get(tensor)
        return next(iter(forms)) if forms else identity(tensor.rank)

    def read(self, tensor: Tensor, layout: Layout | None = None) -> int:
        """A tensor in a layout, by default the hub's own; a Transpose is written where it is not there so yet."""
        layout = identity(tensor.rank) if layout is None else layout
        if tensor.data is not None:
            return self.half(self._constant_form(tensor, layout))
        forms = self._forms[tensor]
        if layout not in forms:
            have, index = next(iter(forms.items()))
            shape = permuted(tensor.shape, layout)
            target = self._target(tensor, layout)
            if only_ones_move(tensor.shape, have, layout):
                self.reshape(index, shape, target)
            else:
                self.call(
                    "TRANSPOSE", [index, self.integers(between(have, layout), "perm")], [target], "TransposeOptions"
                )
            forms[layout] = target
        return forms[layout]

    def _constant_form(self, tensor: Tensor, layout: Layout) -> int:
        data, quant = tensor.data, tensor.quant
        if data is None:
            raise ModelError(f"tensor {tensor.name!r} is no constant")
        if tensor.rank and layout != identity(tensor.rank):
            data = data.transpose(layout)
            quant = None if quant is None else quant.moved(tensor.shape, layout)
        return self.constant(data, tensor.dtype, quant, tensor.name)

    def half(self, index: int) -> int:
        """A float16 constant as float32, behind a Dequantize which runtimes do once; others as they are."""
        stored = self.tensors[index]
        if stored.dtype != "float16" or stored.data is None:
            return index
        if index not in self._halves:
            self._halves[index] = self._store(Stored(self.name(f"{stored.name}_float"), stored.shape, "float32"))
            self.call("DEQUANTIZE", [index], [self._halves[index]], "DequantizeOptions")
        return self._halves[index]

    def _target(self, tensor: Tensor, layout: Layout, *, made: bool = False) -> int:
        """A tensor of the file for a logical one: under its own name in the hub's layout, and where an operator makes it."""
        plain = layout == identity(tensor.rank)
        own = plain and tensor in self._outputs and not any(t.name == tensor.name for t in self.tensors)
        called = plain or (made and tensor not in self._outputs)
        name = (
            tensor.name if own else self.name(tensor.name if called else f"{tensor.name}_{''.join(map(str, layout))}")
        )
        quant = None if tensor.quant is None else tensor.quant.moved(tensor.shape, layout)
        return self._store(Stored(name, permuted(tensor.shape, layout), tensor.dtype, quant))

    def make(self, tensor: Tensor, layout: Layout | None = None) -> int:
        """The file's tensor that an operator writes a logical one into."""
        layout = identity(tensor.rank) if layout is None else layout
        index = self._target(tensor, layout, made=True)
        self._forms[tensor] = {layout: index}
        return index

    def alias(self, tensor: Tensor, index: int, layout: Layout) -> None:
        """Let a logical tensor be one that the file has already."""
        if tensor in self._outputs and layout == identity(tensor.rank):
            index = self.reshape(index, self.shape(index), self._target(tensor, layout))
        self._forms[tensor] = {layout: index}

    def expanded(self, tensor: Tensor, layout: Layout) -> int:
        """A tensor as an operand of one of the rank of `layout`, broadcast as ONNX does: ones are put before its axes."""
        rank = len(layout)
        if tensor.rank == rank:
            return self.read(tensor, layout)
        if layout == identity(rank) or math.prod(tensor.shape) == 1:
            return self.read(tensor)
        shape = (1,) * (rank - tensor.rank) + tensor.shape
        if tensor.data is not None:
            quant = tensor.quant
            if quant is not None and quant.axis is not None:
                quant = Quant(quant.scale, quant.zero_point, quant.axis + rank - tensor.rank, quant.block)
            return self.read(Tensor(tensor.name, shape, tensor.dtype, tensor.data.reshape(shape), quant), layout)
        grown = Tensor(f"{tensor.name}_grown", shape, tensor.dtype, None, tensor.quant)
        self.reshape(self.read(tensor), shape, self.make(grown))
        return self.read(grown, layout)

    # --- operators --------------------------------------------------------------------------------------------------

    def call(
        self, builtin: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **fields: Any
    ) -> None:
        """Write an operator; an input of -1 is left out."""
        self.calls.append(Call(builtin, list(inputs), list(outputs), options, fields))

    def reshape(self, source: int, shape: Sequence[int], target: int | None = None) -> int:
        """The same numbers in another shape, into a new tensor or a given one."""
        stored = self.tensors[source]
        if target is None:
            target = self.temporary(f"{stored.name}_reshaped", shape, stored)
        sizes = self.integers(shape, "shape")
        self.call("RESHAPE", [source, sizes], [target], "ReshapeOptions", newShape=tuple(shape))
        return target

    def unary(self, builtin: str, source: int, hint: str, options: str = "", **fields: Any) -> int:
        """A function of each number of a float tensor, into a new tensor."""
        target = self.temporary(hint, self.shape(source), self.tensors[source])
        self.call(builtin, [source], [target], options, **fields)
        return target

    def binary(
        self, builtin: str, one: int, other: int, hint: str, target: int | None = None, act: str = "NONE"
    ) -> int:
        """A float operation with broadcasting, into a new tensor or a given one."""
        if target is None:
            shape = np.broadcast_shapes(self.shape(one), self.shape(other))
            target = self.temporary(hint, shape, self.tensors[one])
        options, fields = BINARY_OPTIONS.get(builtin, ("", False))
        self.call(builtin, [one, other], [target], options, **({"fusedActivationFunction": act} if fields else {}))
        return target

    def number(self, value: float, hint: str = "number") -> int:
        """A constant float32 scalar."""
        return self.constant(np.array(value, np.float32), "float32", hint=hint)


BINARY_OPTIONS: dict[str, tuple[str, bool]] = {
    "ADD": ("AddOptions", True),
    "SUB": ("SubOptions", True),
    "MUL": ("MulOptions", True),
    "DIV": ("DivOptions", True),
    "POW": ("PowOptions", False),
    "MAXIMUM": ("MaximumMinimumOptions", False),
    "MINIMUM": ("MaximumMinimumOptions", False),
    "SQUARED_DIFFERENCE": ("SquaredDifferenceOptions", False),
    "FLOOR_DIV": ("FloorDivOptions", False),
    "FLOOR_MOD": ("FloorModOptions", False),
    "EQUAL": ("EqualOptions", False),
    "NOT_EQUAL": ("NotEqualOptions", False),
    "GREATER": ("GreaterOptions", False),
    "GREATER_EQUAL": ("GreaterEqualOptions", False),
    "LESS": ("LessOptions", False),
    "LESS_EQUAL": ("LessEqualOptions", False),
    "LOGICAL_AND": ("LogicalAndOptions", False),
    "LOGICAL_OR": ("LogicalOrOptions", False),
}
"""Operators of two tensors: the options' table, and whether it has a fused activation."""


def _kind(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    return tensor.shape, tensor.dtype


def digest(data: bytes) -> bytes:
    """What stands for some bytes in a table: they themselves, or their hash where they are many."""
    return data if len(data) <= 64 else hashlib.sha256(data).digest()


def refuse(op: Op, why: str, remedy: str) -> ModelError:
    """The error for an operator that LiteRT cannot do exactly as ONNX says."""
    return ModelError(f"{op.kind} {op.name!r} cannot be written as LiteRT: {why}; {remedy}")


NUMPY: dict[str, Any] = {
    "float32": np.float32,
    "float16": np.float16,
    "int4": ml_dtypes.int4,
    "int2": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}
