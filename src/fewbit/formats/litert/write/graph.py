"""The graph between the hub and the flatbuffer: logical tensors in the hub's layout, each perhaps quantized.

A tensor with a `quant` stands for the real numbers (q - zero_point) * scale, whoever reads it. So no DequantizeLinear is left
here, and an operator is one of integers exactly when what it reads and what it makes is quantized.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Quant:
    """How integers stand for real numbers.

    scale: float32 (n,), > 0; one value, or one for each index of `axis`, or with `block` one for each block, flattened.
    zero_point: int64 (n,).
    axis: the logical axis of the scales; None for one scale.
    block: numbers along `axis` that share a scale where weights are quantized in blocks; 0 without blocks.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int | None = None
    block: int = 0

    def same(self, other: Quant | None) -> bool:
        """Whether the same integers stand for the same numbers."""
        return (
            other is not None
            and self.axis == other.axis
            and self.block == other.block
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    def real(self, integers: Array) -> NDArray[np.float32]:
        """What integers of this form stand for."""
        if self.block and self.axis is not None:
            grid = self.grid(integers.shape)
            scale = np.repeat(self.scale.reshape(grid), self.block, self.axis)
            zero = np.repeat(self.zero_point.reshape(grid), self.block, self.axis)
        else:
            shape = [-1 if axis == self.axis else 1 for axis in range(integers.ndim)]
            scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape)
        return ((integers.astype(np.int64) - zero) * scale).astype(np.float32)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the scales of a tensor that is quantized in blocks."""
        return tuple(size // self.block if axis == self.axis else size for axis, size in enumerate(shape))

    def moved(self, shape: Sequence[int], layout: Sequence[int]) -> Quant:
        """The same for a tensor of this shape after its axes were put in the order of a layout."""
        if self.axis is None:
            return self
        axis = list(layout).index(self.axis)
        if not self.block:
            return Quant(self.scale, self.zero_point, axis)
        grid = self.grid(shape)
        scale = self.scale.reshape(grid).transpose(layout).reshape(-1)
        return Quant(scale, self.zero_point.reshape(grid).transpose(layout).reshape(-1), axis, self.block)


def per_tensor(scale: float, zero_point: int) -> Quant:
    """One scale for all."""
    return Quant(np.array([scale], np.float32), np.array([zero_point], np.int64))


@dataclass(slots=True, eq=False)
class Tensor:
    """A value of the graph.

    shape: the hub's, with every size known.
    dtype: the element type in the file: float32, float16, int4, int8, int16, int32, int64, uint8 or bool.
    data: the numbers of a constant, int64 where the hub has them so, 4-bit ones unpacked in int8; None otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quant: Quant | None = None

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(slots=True, eq=False)
class Op:
    """One operator.

    kind: ONNX's operator type, which is the key of the op table.
    activation: what the kernel does to its result: NONE, RELU, RELU6 or RELU_N1_TO_1.
    expand: whether a float operator reads its integer weight behind a Dequantize, rather than in a hybrid kernel.
    """

    kind: str
    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    attributes: dict[str, Any] = field(default_factory=dict)
    activation: str = "NONE"
    expand: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether it is a MatMul that FULLY_CONNECTED can do: by a constant matrix from the right."""
        if self.kind != "MatMul":
            return False
        weight = self.need(1)
        return weight.is_constant and weight.rank == 2 and self.need(0).rank >= 2

    @property
    def kernel(self) -> str:
        """The name under which `fewbit.formats.litert.rules.KERNELS` has its integer kernel, if there is one."""
        weight = self.input(1)
        if self.kind == "Conv" and weight is not None and weight.rank > 1:
            groups = int(self.get("group", 1))
            if groups > 1 and weight.shape[1] == 1 and groups == self.need(0).shape[1]:
                return "DepthwiseConv"
        if self.kind == "MatMul":
            return "MatMul" if self.is_linear else "BatchMatMul"
        if self.kind == "LpNormalization":
            last = self.get("axis", -1) in (-1, self.need(0).rank - 1)
            return "L2Normalization" if last and self.get("p", 2) == 2 else self.kind
        if self.kind == "Resize":
            return "ResizeNearest" if self.get("mode", "nearest") == "nearest" else "ResizeLinear"
        return self.kind

    def get(self, name: str, default: Any) -> Any:
        """An attribute, or ONNX's default for it."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> Tensor | None:
        """An input, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def need(self, index: int) -> Tensor:
        """An input that ONNX demands; models without it were refused when they were loaded."""
        tensor = self.inputs[index]
        if tensor is None:
            raise ValueError(f"{self.kind} {self.name} has no input {index}")
        return tensor


@dataclass(slots=True)
class Graph:
    """Operators in topological order between inputs and outputs."""

    ops: list[Op]
    inputs: list[Tensor]
    outputs: list[Tensor]
    notes: list[str] = field(default_factory=list)

    def producers(self) -> dict[Tensor, Op]:
        return {output: op for op in self.ops for output in op.outputs}

    def readers(self) -> dict[Tensor, list[Op]]:
        """The operators that read each tensor, once for each time."""
        found: dict[Tensor, list[Op]] = {}
        for op in self.ops:
            for tensor in op.inputs:
                if tensor is not None:
                    found.setdefault(tensor, []).append(op)
        return found

    def replace(self, changes: dict[Tensor, Tensor]) -> None:
        """Let readers, and the graph's outputs, read other tensors; chains of changes are followed."""

        def last(tensor: Tensor) -> Tensor:
            while tensor in changes:
                tensor = changes[tensor]
            return tensor

        if changes:
            for op in self.ops:
                op.inputs = [None if t is None else last(t) for t in op.inputs]
            self.outputs = [last(t) for t in self.outputs]

    def prune(self) -> None:
        """Drop operators of which nothing is read."""
        wanted = set(self.outputs)
        kept = []
        for op in reversed(self.ops):
            if not wanted.isdisjoint(op.outputs):
                kept.append(op)
                wanted.update(t for t in op.inputs if t is not None)
        self.ops = kept[::-1]

    def remove(self, ops: Iterable[Op]) -> None:
        gone = set(map(id, ops))
        self.ops = [op for op in self.ops if id(op) not in gone]
