"""The hub in the making: for each tensor of the file the values that hold it, by layout, and the nodes that make them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike, NDArray

from fewbit.errors import ModelError
from fewbit.formats.litert.read.constants import constant, is_constant
from fewbit.formats.litert.read.file import LiteRTFile, Operator, Quantization, Sizes, Subgraph, Tensor
from fewbit.formats.litert.read.layout import Layout, change, order
from fewbit.formats.litert.read.weights import OPSET_NARROW, constant_value, dtype_of
from fewbit.graph.hub import unique_name

OPSET = 20
"""The newest whose int8 activations ONNX Runtime loads wherever a MatMul and its bias are fused."""

_NARROW = (ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT16, ir.DataType.UINT16)
_STORED = (ir.DataType.INT8, ir.DataType.UINT8, *_NARROW)
"""What QuantizeLinear and DequantizeLinear take."""

Held = dict[Layout, ir.Value]


class Builder:
    """What handlers of operators see.

    Every tensor is asked for with `real` (numbers, dequantized where the file has integers) or `stored` (as the file has
    it), in a layout; a Transpose or DequantizeLinear appears where it is needed, once. Results are given with `put`.
    """

    def __init__(self, file: LiteRTFile, subgraph: Subgraph, reserved: Collection[str]) -> None:
        self.file = file
        self.subgraph = subgraph
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.opset = OPSET
        self.notes: list[str] = []
        self.names: dict[int, str] = {}
        self._taken = set(reserved)
        self._real: dict[int, Held] = {}
        self._stored: dict[int, Held] = {}
        self._weights: dict[tuple[int, tuple[int, ...], tuple[int, ...] | None], ir.Value] = {}
        self._named_values: set[ir.Value] = set()
        self._made: set[int] = set()
        self._source: dict[int, int] = {}
        self._first_copy: dict[int, int] = {}
        self._arrays: dict[int, NDArray[np.generic]] = {}
        self._scope = ""

    # The file

    def tensor(self, index: int) -> Tensor:
        return self.subgraph.tensors[index]

    def given(self, op: Operator, place: int) -> int | None:
        """The tensor at an input that can be left out."""
        return op.inputs[place] if place < len(op.inputs) and op.inputs[place] >= 0 else None

    def rank(self, index: int) -> int | None:
        return self.tensor(index).rank

    def sizes(self, index: int) -> Sizes | None:
        return self.tensor(index).sizes

    def known_rank(self, op: Operator, index: int) -> int:
        """Raises ModelError where the file does not state it."""
        rank = self.tensor(index).rank
        if rank is None:
            raise self.refuse(op, f"needs the rank of {self.tensor(index).name!r}, which the file does not state")
        return rank

    def is_constant(self, index: int) -> bool:
        if index in self._source:
            return True
        if self.tensor(index).count == 0:  # no bytes, as where there is no constant at all
            return index not in self._made
        return is_constant(self.file, self.tensor(index))

    def array(self, index: int) -> NDArray[np.generic] | None:
        """The stored numbers of a constant, or None for what is computed."""
        if not self.is_constant(index):
            return None
        source = self.source(index)
        if source not in self._arrays:
            self._arrays[source] = constant(self.file, self.tensor(source))
        array = self._arrays[source]
        wide = self.tensor(index).dtype == ir.DataType.FLOAT and array.dtype != np.int8 and array.dtype.itemsize == 2
        return array.astype(np.float32) if wide else array

    def hand_on(self, index: int, copy: int) -> bool:
        """Let a tensor be the same constant as another: weights that an operator only converts stay weights.

        Returns whether that could be done: the first one is constant, and has the shape of the other.
        """
        if (
            not self.is_constant(index)
            or self.sizes(index) != self.sizes(copy)
            or self.tensor(copy).dtype != ir.DataType.FLOAT
        ):
            return False
        source = self.source(index)
        self._source[copy] = source
        first = self._first_copy.setdefault(source, copy)
        for held in (self._real, self._stored):
            held[copy] = held.setdefault(first, {})
        return True

    def integers(self, op: Operator, place: int) -> list[int]:
        """The integers of an input that has to be constant.

        Raises:
            ModelError: it is computed, or left out.
        """
        index = self.given(op, place)
        array = None if index is None else self.array(index)
        if array is None or array.dtype.kind not in "iu":
            raise self.refuse(op, f"has an input {place} that is no constant of integers")
        return [int(number) for number in array.reshape(-1)]

    def axis(self, op: Operator, axis: int, rank: int) -> int:
        """An axis counted from the front. Raises ModelError where there is none such."""
        if not -rank <= axis < rank:
            raise self.refuse(op, f"names axis {axis} of {rank}")
        return axis % rank

    def refuse(self, op: Operator, why: str) -> ModelError:
        """The error for an operator that does not come in."""
        name = f"CUSTOM {op.custom!r}" if op.name == "CUSTOM" else op.name
        output = self.tensor(op.outputs[0]).name if op.outputs else ""
        return ModelError(f"{self.file.label}: operator {op.index} ({name}, which makes {output!r}) {why}")

    # Values

    def emit(self, op_type: str, inputs: Sequence[ir.Value | ArrayLike | None], **attributes: Any) -> ir.Value:
        """A node with one output. Inputs that are no values become constants; attributes of None are left out."""
        return self.emit_many(op_type, inputs, 1, **attributes)[0]

    def emit_many(
        self, op_type: str, inputs: Sequence[ir.Value | ArrayLike | None], outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        values = [v if v is None or isinstance(v, ir.Value) else self.constant(v, op_type) for v in inputs]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = ir.Node("", op_type, values, ir.convenience.convert_attributes(given), num_outputs=outputs)
        for value in node.outputs:
            value.name = self._fresh(f"{self._scope}/{op_type}")
        node.name = node.outputs[0].name
        self.nodes.append(node)
        return node.outputs

    def constant(self, array: ArrayLike, name: str, dtype: ir.DataType | None = None) -> ir.Value:
        """An initializer of its own. Python's integers become int64, its floats float32."""
        made = np.ascontiguousarray(array).reshape(np.shape(array))
        if isinstance(array, int | float | list | tuple):
            made = made.astype(np.float32 if made.dtype.kind == "f" and made.size else np.int64)
        name = self._fresh(f"{self._scope}/{name}" if self._scope else name)
        tensor = ir.Tensor(made, dtype=dtype, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self.initializers.append(value)
        return value

    def input(self, index: int, name: str) -> ir.Value:
        """A graph input that holds a tensor as the file does."""
        tensor = self.tensor(index)
        if tensor.dtype is None:
            raise ModelError(
                f"{self.file.label}: the input {name!r} is a resource or variant, which has no counterpart here"
            )
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=_symbolic(name, tensor.sizes))
        self.names[index] = name
        self._made.add(index)
        (self._stored if self.quantization(index) else self._real)[index] = {Layout.FILE: value}
        return value

    def quantization(self, index: int) -> Quantization | None:
        """How the integers of a tensor stand for numbers, if they do."""
        tensor = self.tensor(self.source(index))
        found = tensor.quantization
        if found is None or tensor.dtype is None:
            return None
        whole = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.INT2)
        if tensor.dtype in _STORED or (tensor.dtype in whole and is_constant(self.file, tensor)):
            return found
        return None

    def held(self, index: int, layout: Layout) -> bool:
        """Whether a tensor is there in this layout without a Transpose; a constant always is."""
        return layout in self._real.get(index, {}) or layout in self._stored.get(index, {}) or self.is_constant(index)

    def prefers_first(self, index: int) -> bool:
        """Whether a tensor is there with its channels first, and not as in the file."""
        return self.held(index, Layout.FIRST) and not self.held(index, Layout.FILE)

    def real(self, index: int, layout: Layout = Layout.FILE) -> ir.Value:
        """The numbers of a tensor; those of integers with a scale come out of a DequantizeLinear."""
        if self.quantization(index) is None:
            return self.stored(index, layout)
        layout = self._single(index, layout)
        held = self._real.setdefault(index, {})
        if layout not in held:
            if self.is_constant(index):
                held[layout] = constant_value(self, index, order(layout, len(self.tensor(index).sizes or ())))
            else:
                held[layout] = self._dequantized(index, self.stored(index, layout), layout)
        return held[layout]

    def stored(self, index: int, layout: Layout = Layout.FILE) -> ir.Value:
        """A tensor as the file has it: integers where it is quantized."""
        layout = self._single(index, layout)
        quantized = self.quantization(index) is not None
        if quantized and index in self._source:
            return self.real(index, layout)
        held = (self._stored if quantized else self._real).setdefault(index, {})
        if layout in held:
            return held[layout]
        tensor = self.tensor(index)
        array = self.array(index)
        if array is not None:
            held[layout] = self.named(array.transpose(order(layout, array.ndim)), self.tensor(self.source(index)))
        elif not held:
            raise ModelError(
                f"{self.file.label}: {self._scope or 'an output'!r} needs tensor {index} ({tensor.name!r}), "
                "which nothing before it makes"
            )
        else:
            before = next(iter(held))
            held[layout] = self.emit("Transpose", [held[before]], perm=change(before, layout, len(tensor.sizes or ())))
        return held[layout]

    def weight(self, index: int, perm: Sequence[int], shape: Sequence[int] | None = None) -> ir.Value:
        """The numbers of a tensor with its axes permuted, then in another shape: for a constant without a node."""
        key = (
            self._first_copy.get(self._source.get(index, -1), index),
            tuple(perm),
            None if shape is None else tuple(shape),
        )
        count = self.tensor(index).count
        if len(perm) != self.rank(index) or (shape is not None and count is not None and math.prod(shape) != count):
            raise self.file.flat.damaged(
                f"tensor {self.tensor(index).name!r} of shape {self.sizes(index)} is no weight of shape {shape}"
            )
        if key not in self._weights:
            if self.is_constant(index):
                self._weights[key] = constant_value(self, index, perm, shape)
            else:
                value = self.real(index)
                if list(perm) != sorted(perm):
                    value = self.emit("Transpose", [value], perm=list(perm))
                self._weights[key] = value if shape is None else self.emit("Reshape", [value, list(shape)])
        return self._weights[key]

    def put(self, index: int, value: ir.Value, layout: Layout = Layout.FILE) -> None:
        """Say that a value holds the numbers of a tensor; they are quantized if the file's are."""
        tensor, quantization = self.tensor(index), self.quantization(index)
        layout = self._single(index, layout)
        if quantization is None or tensor.dtype is None:
            self._name(value, index, layout)
            self._real[index] = {layout: value}
            return
        scale, zero = self.scale_of(quantization, tensor.dtype)
        axis = (
            None if quantization.scales.size == 1 else order(layout, len(tensor.sizes or ())).index(quantization.axis)
        )
        made = self.emit("QuantizeLinear", [value, scale, zero], axis=axis)
        self._name(made, index, layout)
        self._stored[index] = {layout: made}

    def put_stored(self, index: int, value: ir.Value, layout: Layout = Layout.FILE) -> None:
        """Say that a value is a tensor as the file has it."""
        layout = self._single(index, layout)
        self._name(value, index, layout)
        quantized = self.quantization(index) is not None
        (self._stored if quantized else self._real)[index] = {layout: value}

    def output(self, index: int, name: str) -> ir.Value:
        """The value that holds a tensor as in the file, under this name; behind an Identity if it has another to keep."""
        value = self.stored(index)
        if value.name != name:
            if value.producer() is None or value in self._named_values:
                value = self.emit("Identity", [value])
            value.name = name
            self._named_values.add(value)
        tensor = self.tensor(index)
        if tensor.dtype is None:
            raise ModelError(
                f"{self.file.label}: the output {name!r} is a resource or variant, which has no counterpart here"
            )
        value.type, value.shape = ir.TensorType(tensor.dtype), _symbolic(name, tensor.sizes)
        return value

    def begin(self, op: Operator) -> None:
        """Nodes and constants from now on are named after what this operator makes.

        Raises:
            ModelError: it makes a constant, or what another one has made.
        """
        for index in op.outputs:
            if index in self._made or is_constant(self.file, self.tensor(index)):
                raise self.refuse(op, "makes what is there already")
            self._made.add(index)
        index = op.outputs[0]
        self._scope = self.names.get(index) or self.tensor(index).name or f"{op.name.lower()}_{op.index}"

    def _single(self, index: int, layout: Layout) -> Layout:
        """Tensors of fewer than three axes, or nobody knows how many, have one layout."""
        return Layout.FILE if (self.rank(index) or 0) < 3 else layout

    def _fresh(self, stem: str) -> str:
        name = unique_name(stem, self._taken)
        self._taken.add(name)
        return name

    def _name(self, value: ir.Value, index: int, layout: Layout) -> None:
        """Give a new value the tensor's name, and its node too. What is called after another tensor keeps its name."""
        node = value.producer()
        if node is None or value in self._named_values:
            return
        interface = self.names.get(index)
        if interface is not None:  # of an output, which is as in the file
            value.name = interface if layout is Layout.FILE else self._fresh(f"{interface}/{layout.value}")
        elif self.tensor(index).name:
            value.name = self._fresh(self.tensor(index).name)
        self._named_values.add(value)
        if node.outputs[0] is value:
            node.name = value.name

    def source(self, index: int) -> int:
        """The constant that a tensor only hands on, or the tensor itself."""
        return self._source.get(index, index)

    def named(self, array: NDArray[np.generic], tensor: Tensor) -> ir.Value:
        """A constant called after a tensor."""
        scope, self._scope = self._scope, ""
        value = self.constant(array, tensor.name or f"constant_{tensor.index}", dtype_of(array, tensor))
        self._scope = scope
        return value

    def _dequantized(self, index: int, value: ir.Value, layout: Layout) -> ir.Value:
        tensor, quantization = self.tensor(index), self.quantization(index)
        if quantization is None or tensor.dtype is None or quantization.blocks is not None:
            raise ModelError(f"{self.file.label}: tensor {tensor.name!r} has scales for blocks and is no weight")
        scale, zero = self.scale_of(quantization, tensor.dtype)
        axis = (
            None if quantization.scales.size == 1 else order(layout, len(tensor.sizes or ())).index(quantization.axis)
        )
        return self.emit("DequantizeLinear", [value, scale, zero], axis=axis)

    def scale_of(self, quantization: Quantization, dtype: ir.DataType) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point as constants: scalars for one scale."""
        if quantization.blocks is not None:
            raise ModelError(
                f"{self.file.label}: {self._scope!r} has scales for blocks, which only constant weights can have"
            )
        if dtype in _NARROW:
            self.opset = OPSET_NARROW
        least, most = (int(dtype.min), int(dtype.max))
        zeros = quantization.zero_points
        if zeros.min() < least or zeros.max() > most:
            raise self.file.flat.damaged(
                f"{self._scope!r} has zero points from {zeros.min()} to {zeros.max()}, and {dtype.name} has none"
            )
        shape = () if quantization.scales.size == 1 else quantization.scales.shape
        scale = self.constant(quantization.scales.reshape(shape), "scale")
        return scale, self.constant(zeros.reshape(shape).astype(dtype.numpy()), "zero_point", dtype)


def _symbolic(name: str, sizes: Sizes | None) -> ir.Shape | None:
    """A shape with names for the sizes that are open; the first one counts samples in all files that leave it open."""
    if sizes is None:
        return None
    return ir.Shape(
        [size if size is not None else f"{name}_{axis}" if axis else "batch" for axis, size in enumerate(sizes)]
    )
