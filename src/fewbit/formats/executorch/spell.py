"""A hub in the operators of the export: what is quantized in the forms that XNNPACK's partitioner knows.

The partitioner makes an integer kernel of an operator whose inputs come straight from dequantizers and whose only reader is a
quantizer, all of int8. So integers that are moved become real numbers between the two, uint8 becomes int8 (the same integers
less 128), and every reader gets a dequantizer of its own: one that an integer kernel has absorbed must not be read by others.
What has no such form stays as ONNX wrote it, and is computed step by step in float: slower, and the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fewbit.core.affine import quantize
from fewbit.formats.executorch.products import OFFSETS, Products, eight_bits
from fewbit.formats.executorch.rows import DOMAIN
from fewbit.formats.executorch.stored import Stored, stored_constant
from fewbit.graph.edit import add_constant, is_op
from fewbit.graph.facts import find_patterns, only_consumer
from fewbit.graph.hub import Hub, constant_array
from fewbit.spec import INT8, QParams, QSpec

_MOVES = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Expand", "Tile"), 1),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "Identity", "MaxPool", "Resize", "Gather"), 1),
    **dict.fromkeys(("Pad", "Clip"), 1),
    "Concat": -1,
}
"""Operators that move or compare integers -> how many of their inputs carry data; -1: all."""

_SAME_SCALE = {**{op: count for op, count in _MOVES.items() if op not in ("Resize", "Pad")}, "Relu": 1}
"""Operators whose integer kernels have the same scale at both ends, and for which rounding before is rounding after."""

_BOUNDS = {"Pad": (2,), "Clip": (1, 2)}
"""Inputs that are a number of the same kind as the data."""

_FUNCTIONS = {
    "gelu": ("Gelu", {"approximate": "none"}),
    "hard_swish": ("HardSwish", {}),
}
"""Functions in any spelling for which XNNPACK has a kernel -> ONNX's operator and attributes."""


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """An int8 value that stands for (value - zero_point) · scale."""

    value: ir.Value
    scale: float
    zero_point: int

    def same(self, scale: float, zero_point: int) -> bool:
        return self.scale == scale and self.zero_point == zero_point


def spell(hub: Hub, *, dynamic: bool | Collection[str]) -> list[str]:
    """Rewrite the hub, and give notes on what of it computes in float although its weights are integers.

    Args:
        dynamic: products of a float activation and an integer weight quantize the activation as they run; or the names of
            the nodes that do.
    """
    hub.model.opset_imports[DOMAIN] = 1
    _name_functions(hub)
    return _Speller(hub, dynamic).run()


def _name_functions(hub: Hub) -> None:
    for pattern in find_patterns(hub):
        if pattern.kind not in _FUNCTIONS:
            continue
        last = pattern.nodes[-1]
        op, attributes = _FUNCTIONS[pattern.kind]
        node = ir.node(op, [pattern.input], attributes=attributes, name=f"{last.name}_{pattern.kind}")
        _place(hub, node, last, [last.outputs[0]])
        _take_over(hub, last.outputs[0], node.outputs[0])


class _Speller:
    def __init__(self, hub: Hub, dynamic: bool | Collection[str]) -> None:
        self.hub = hub
        self.integers: dict[ir.Value, Integers] = {}
        self.real: dict[ir.Value, Integers] = {}
        self.stored: dict[ir.Value, Stored] = {}
        self.expanded: dict[ir.Value, ir.Value] = {}
        self.made: dict[tuple[ir.Value, float, int], Integers] = {}
        self.products = Products(hub, self.stored, dynamic)

    def run(self) -> list[str]:
        nodes = self.hub.nodes()
        for node in nodes:
            stored = stored_constant(node) if _dequantizes(node) else None
            if stored is not None:
                self.stored[node.outputs[0]] = stored
                if node.inputs[0].dtype == ir.DataType.INT32:  # type: ignore[union-attr]
                    # A bias: XNNPACK finds its integers by itself, at the same scale.
                    for reader, index in list(node.outputs[0].uses()):
                        reader.replace_input_with(index, self._expand(node.outputs[0]))
        for node in nodes:
            if node.outputs and node.outputs[0] in self.stored:
                continue
            done = (is_op(node, "QuantizeLinear") and self._quantize(node)) or (
                _dequantizes(node) and self._dequantize(node)
            )
            if not done and not self._move(node):
                self._compute(node)
        self._finish()
        return self.products.notes

    def _finish(self) -> None:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        for output in list(self.hub.graph.outputs):
            if output in self.real:
                producer = output.producer()
                assert producer is not None
                _take_over(self.hub, output, self._dequantized(self.real[output], producer))
        RemoveUnusedNodesPass()(self.hub.model)

    def _quantize(self, node: ir.Node) -> bool:
        parameters = eight_bits(node)
        if parameters is None:
            return False
        scale, zero_point = parameters
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        known = self.real.get(source)
        if known is not None and known.same(scale, zero_point):
            self.integers[output] = known
            return True
        array = self.stored[source].real() if source in self.stored else constant_array(source)
        if array is not None:
            spec = QSpec(INT8, rounding="half_even")
            params = QParams(spec, np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))
            constant = add_constant(self.hub, quantize(np.asarray(array, np.float32), params), f"{output.name}_int8")
            self.integers[output] = Integers(constant, scale, zero_point)
            return True
        if (source, scale, zero_point) not in self.made:
            self.made[source, scale, zero_point] = self._quantized(self._real(source, node), scale, zero_point, node)
        self.integers[output] = made = self.made[source, scale, zero_point]
        if output.is_graph_output():
            # An integer kernel wants to be read by one quantizer alone.
            node.replace_input_with(0, self._dequantized(made, node))
        return True

    def _dequantize(self, node: ir.Node) -> bool:
        source, output = node.inputs[0], node.outputs[0]
        made = self.integers.get(source) if source is not None else None
        parameters = eight_bits(node)
        if parameters is None or source is None or (made is None and not source.is_graph_input()):
            return False
        scale, zero_point = parameters
        if made is None:  # an input of integers: real numbers, and from there on the same integers as int8
            (value,) = self._call("DequantizeLinear", node.inputs, node)
            self.real[output] = self._quantized(value, scale, zero_point, node)
            return True
        if not made.same(scale, zero_point):
            # The same integers at another scale: real numbers are multiplied, and quantized to the same integers.
            (value,) = self._call("Mul", [self._dequantized(made, node), self._number(scale / made.scale)], node)
            if made.zero_point != zero_point:
                shift = self._number((made.zero_point - zero_point) * scale)
                (value,) = self._call("Add", [value, shift], node)
            made = self._quantized(value, scale, zero_point, node)
        self.real[output] = made
        return True

    def _move(self, node: ir.Node) -> bool:
        count = _MOVES.get(node.op_type, 0) if is_op(node, node.op_type) else 0
        data = list(node.inputs if count < 0 else node.inputs[:count])
        found = [self.integers[value] for value in data if value in self.integers]
        if not data or len(found) != len(data) or (node.op_type == "MaxPool" and len(node.outputs) > 1):
            return False
        first = found[0]
        if not all(first.same(other.scale, other.zero_point) for other in found):
            return False
        inputs: list[ir.Value | None] = [self._dequantized(integers, node) for integers in found]
        for index, value in enumerate(node.inputs[len(data) :], len(data)):
            if value is None or value.dtype not in OFFSETS:
                inputs.append(value)
                continue
            array = constant_array(value) if index in _BOUNDS.get(node.op_type, ()) else None
            if array is None:
                return False
            steps = array.astype(np.int32) - OFFSETS[value.dtype] - first.zero_point
            inputs.append(add_constant(self.hub, (steps * np.float32(first.scale)).astype(np.float32), "bound"))
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        outputs = self._call(node.op_type, inputs, node, len(node.outputs), **attributes)
        for old, new in zip(node.outputs, outputs, strict=True):
            new.shape = old.shape
            self.integers[old] = self._quantized(new, first.scale, first.zero_point, node)
        return True

    def _compute(self, node: ir.Node) -> None:
        """A node that computes with real numbers, or with what nothing is known of."""
        node = self.products.take(node, self._is_quantized) or node
        self._share_scale(node)
        integers = any(value in self.real for value in node.inputs)
        for index, value in enumerate(node.inputs):
            if value in self.stored:
                constant = self._operand(self.stored[value]) if integers else None
                real = self._expand(value) if constant is None else self._dequantized(constant, node)
                node.replace_input_with(index, real)
            elif value is not None:
                node.replace_input_with(index, self._real(value, node))

    def _share_scale(self, node: ir.Node) -> None:
        """Quantize what is moved to the scale of the result before it is moved: the kernels want one scale at both ends.

        Exact, as the quantizer is monotone and looks at one number at a time.
        """
        wanted = {_read_as(value) for value in node.outputs}
        parameters = next(iter(wanted))
        count = _SAME_SCALE.get(node.op_type, 0) if is_op(node, node.op_type) else 0
        data = list(node.inputs if count < 0 else node.inputs[:count])
        if (
            len(wanted) != 1
            or parameters is None
            or not all(value in self.real or value in self.stored for value in data)
        ):
            return
        for index, value in enumerate(data):
            constant = self._operand(self.stored[value]) if value in self.stored else None
            made = self.real.get(value, constant)  # type: ignore[arg-type]
            if made is not None and not made.same(*parameters):
                made = self._quantized(self._dequantized(made, node), *parameters, node)
            if made is not None:
                node.replace_input_with(index, self._dequantized(made, node))

    def _is_quantized(self, value: ir.Value) -> bool:
        """Whether a value comes straight from integers."""
        return value in self.real

    def _operand(self, stored: Stored) -> Integers | None:
        """A constant beside quantized activations as int8 with one scale, None where it is not of that kind."""
        if stored.scale.size != 1 or stored.integers.size == 0:
            return None
        zero = int(stored.zero_point.reshape(-1)[0])
        offset = 128 if stored.integers.max() > 127 or zero > 127 else 0
        steps = stored.integers - offset
        if steps.min() < -128 or steps.max() > 127:
            return None
        constant = add_constant(self.hub, steps.astype(np.int8), "operand")
        return Integers(constant, float(stored.scale.reshape(-1)[0]), zero - offset)

    def _real(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        return self._dequantized(self.real[value], reader) if value in self.real else value

    def _expand(self, value: ir.Value) -> ir.Value:
        """A stored constant as float."""
        if value not in self.expanded:
            self.expanded[value] = add_constant(self.hub, self.stored[value].real(), f"{value.name}_float")
        return self.expanded[value]

    def _quantized(self, value: ir.Value, scale: float, zero_point: int, before: ir.Node) -> Integers:
        (integers,) = self._call("Quantize", [value], before, domain=DOMAIN, scale=scale, zero_point=zero_point)
        integers.type, integers.shape = ir.TensorType(ir.DataType.INT8), value.shape
        return Integers(integers, scale, zero_point)

    def _dequantized(self, integers: Integers, before: ir.Node) -> ir.Value:
        scale, zero_point = integers.scale, integers.zero_point
        (value,) = self._call("Dequantize", [integers.value], before, domain=DOMAIN, scale=scale, zero_point=zero_point)
        value.shape = integers.value.shape
        return value

    def _number(self, number: float) -> ir.Value:
        return add_constant(self.hub, np.asarray(number, np.float32), "number")

    def _call(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        before: ir.Node,
        outputs: int = 1,
        domain: str = "",
        **given: object,
    ) -> Sequence[ir.Value]:
        name = self.hub.fresh_name(f"{before.name}_{op}")
        node = ir.node(op, inputs, attributes=given, domain=domain, num_outputs=outputs, name=name)  # type: ignore[arg-type]
        for index, value in enumerate(node.outputs):
            value.name = name if index == 0 else self.hub.fresh_name(name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
        self.hub.graph.insert_before(before, node)
        return node.outputs


def _dequantizes(node: ir.Node) -> bool:
    """Whether it is a DequantizeLinear; where the opset has none of 4 bits, that of ONNX Runtime is one too."""
    return node.op_type == "DequantizeLinear" and node.domain in ("", "ai.onnx", "com.microsoft")


def _read_as(value: ir.Value) -> tuple[float, int] | None:
    """Scale and zero point of the one quantizer that reads a value, None where others read it."""
    reader = only_consumer(value)
    return eight_bits(reader) if reader is not None and is_op(reader, "QuantizeLinear") else None


def _place(hub: Hub, node: ir.Node, before: ir.Node, like: Sequence[ir.Value]) -> None:
    for value, old in zip(node.outputs, like, strict=True):
        value.name, value.type, value.shape = hub.fresh_name(f"{old.name}_named"), old.type, old.shape
    hub.graph.insert_before(before, node)


def _take_over(hub: Hub, old: ir.Value, new: ir.Value) -> None:
    """A new value has the readers, the name and the place among the graph's outputs of an old one."""
    for reader, index in list(old.uses()):
        if reader is not new.producer():
            reader.replace_input_with(index, new)
    for index, output in enumerate(hub.graph.outputs):
        if output is old:
            hub.graph.outputs[index] = new
    new.type, new.shape = old.type, old.shape
    name, old.name = old.name, hub.fresh_name(f"{old.name}_old")
    new.name = name
