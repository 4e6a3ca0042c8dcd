"""Products by a constant: which of XNNPACK's kernels computes each, and its weight in the form that the kernel reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.formats.executorch.rows import DOMAIN
from fewbit.formats.executorch.stored import Stored, bits_of
from fewbit.graph.edit import add_constant, detach, integer, is_op, real
from fewbit.graph.facts import bias_add, bias_index, clip_bounds, only_consumer
from fewbit.graph.hub import Hub, constant_array

OFFSETS = {ir.DataType.INT8: 0, ir.DataType.UINT8: 128}
"""Types of activations, and what is subtracted to make int8 of their integers."""


class Products:
    """Rewrites Conv, ConvTranspose, Gemm and MatMul whose weight is a constant.

    stored: what dequantizers of constants make. dynamic: whether a float activation is quantized as it runs, or the
    names of the nodes that do so.
    notes: products whose weights are integers and become float, with the reason.
    """

    def __init__(self, hub: Hub, stored: Mapping[ir.Value, Stored], dynamic: bool | Collection[str]) -> None:
        self.hub, self.stored, self.dynamic = hub, stored, dynamic
        self.notes: list[str] = []
        self.weights: dict[tuple[ir.Value, str], ir.Value] = {}

    def take(self, node: ir.Node, is_quantized: Callable[[ir.Value], bool]) -> ir.Node | None:
        """The node that stands for a product now, its other inputs as they were; None where it is none of these.

        Args:
            is_quantized: whether a value is dequantized integers.
        """
        if is_op(node, "Conv", "ConvTranspose"):
            return self._convolution(node, is_quantized)
        if is_op(node, "Gemm", "MatMul"):
            return self._linear(node, is_quantized)
        return None

    def _convolution(self, node: ir.Node, is_quantized: Callable[[ir.Value], bool]) -> ir.Node | None:
        x, weight = node.inputs[0], node.inputs[1]
        if x is None or weight is None or weight not in self.stored:
            return None
        stored = self.stored[weight]
        transposed = node.op_type == "ConvTranspose"
        why = ""
        if not is_quantized(x):
            why = "its activation is float"
        elif not _to_integers(node.outputs[0]):
            why = "its output is not quantized, or read by others than one quantizer"
        elif transposed and integer(node, "group", 1) > 1:
            why = "XNNPACK has no integer kernel of a transposed convolution in groups"
        elif stored.integers.ndim > 4:
            why = "XNNPACK has no kernel of three spatial axes"
        value = self._channels(weight, 1 if transposed else 0, 8) if not why else None
        if value is None:
            self._note(node, why or _UNFIT)
            return None
        node.replace_input_with(1, self._dequantized(value, node))
        return node

    def _linear(self, node: ir.Node, is_quantized: Callable[[ir.Value], bool]) -> ir.Node | None:
        x, weight = node.inputs[0], node.inputs[1]
        if x is None or weight is None:
            return None
        array = self.stored[weight].integers if weight in self.stored else constant_array(weight)
        if array is None or array.ndim != 2 or not _is_plain(node) or x.dtype not in _FLOATS:
            return None
        add = bias_add(node) if node.op_type == "MatMul" else None
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if add is not None:
            bias = add.inputs[bias_index(add, node)]
        last = node if add is None else add
        width = array.shape[0] if integer(node, "transB", 0) else array.shape[1]
        if bias is not None:
            bias = self._vector(bias, width)
            if bias is None:
                return None
        turn = not integer(node, "transB", 0)
        op, made = "Linear", None
        if weight in self.stored:
            op, made = self._integer_weight(node, x, weight, last.outputs[0], turn, is_quantized)
        if made is None:
            numbers = self.stored[weight].real() if weight in self.stored else array
            made = self._constant(
                (weight, f"float{turn}"), np.ascontiguousarray(numbers.T if turn else numbers), weight
            )
        new = ir.node(op, [x, made, bias], domain=DOMAIN, name=f"{node.name}_{op}")
        value, old = new.outputs[0], last.outputs[0]
        self.hub.graph.insert_before(node, new)
        name, is_output = old.name, old.is_graph_output()
        value.type, value.shape = old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=is_output)
        detach(self.hub.graph, [node] if add is None else [node, add])
        old.name, value.name = None, name
        return new

    def _integer_weight(
        self,
        node: ir.Node,
        x: ir.Value,
        weight: ir.Value,
        output: ir.Value,
        turn: bool,
        is_quantized: Callable[[ir.Value], bool],
    ) -> tuple[str, ir.Value | None]:
        """The operator, and its dequantized weight (O, I); None where it has to be float."""
        stored = self.stored[weight].turned() if turn else self.stored[weight]
        named = not isinstance(self.dynamic, bool) and node.name in self.dynamic  # whatever made its activation
        if is_quantized(x) and not named:
            if not _to_integers(output):
                self._note(node, "its output is not quantized, or read by others than one quantizer")
                return "Linear", None
            value = self._channels(weight, 0, 8, turn)
        elif _is_dequantized(x) and not is_quantized(x):
            self._note(node, "its activation has integers of its own")
            return "Linear", None
        elif not named and self.dynamic is not True:
            self._note(node, "its activation is float")
            return "Linear", None
        else:
            value = self._groups(weight, stored, turn) or self._channels(weight, 0, bits_of(stored.centred()), turn)
        if value is None:
            self._note(node, _UNFIT)
            return "Linear", None
        return "Linear" if is_quantized(x) and not named else "DynamicLinear", self._dequantized(value, node)

    def _channels(self, weight: ir.Value, axis: int, bits: int, turn: bool = False) -> dict[str, object] | None:
        stored = self.stored[weight].turned() if turn else self.stored[weight]
        scale = stored.scales_along(axis)
        integers = stored.centred()
        if scale is None or bits > 8 or bits_of(integers) > bits:
            return None
        return self._parts(weight, f"{turn}{axis}", integers, scale, axis=axis, bits=bits)

    def _groups(self, weight: ir.Value, stored: Stored, turn: bool) -> dict[str, object] | None:
        group, integers = stored.groups_of_rows(), stored.centred()
        if not group or bits_of(integers) > 4:
            return None
        return self._parts(weight, f"{turn}groups", integers, stored.scale, axis=0, bits=4, group=group)

    def _parts(
        self, weight: ir.Value, form: str, integers: NDArray[np.int32], scale: NDArray[np.float32], **attributes: int
    ) -> dict[str, object]:
        return {
            "q": self._constant((weight, f"{form}q"), np.ascontiguousarray(integers, np.int8), weight),
            "scale": self._constant((weight, f"{form}s"), np.ascontiguousarray(scale), weight),
            "zero": self._constant((weight, f"{form}z"), np.zeros(scale.shape, np.int32), weight),
            **attributes,
        }

    def _dequantized(self, parts: dict[str, object], before: ir.Node) -> ir.Value:
        inputs = [parts.pop(name) for name in ("q", "scale", "zero")]
        node = ir.node("DequantizeWeight", inputs, attributes=parts, domain=DOMAIN)  # type: ignore[arg-type]
        value = node.outputs[0]
        node.name = value.name = self.hub.fresh_name(f"{before.name}_weight")
        value.type = ir.TensorType(ir.DataType.FLOAT)
        self.hub.graph.insert_before(before, node)
        return value

    def _vector(self, bias: ir.Value, width: int) -> ir.Value | None:
        """A bias as a constant of one number a column, or None where it is none."""
        array = self.stored[bias].real() if bias in self.stored else constant_array(bias)
        if array is None or array.size not in (1, width) or any(n != 1 for n in array.shape[:-1]):
            return None
        flat = np.ascontiguousarray(np.broadcast_to(array.reshape(-1), (width,)))
        return self._constant((bias, f"bias{width}"), flat, bias)

    def _constant(self, key: tuple[ir.Value, str], array: NDArray[np.generic], like: ir.Value) -> ir.Value:
        if key not in self.weights:
            self.weights[key] = add_constant(self.hub, array, f"{like.name}_{key[1]}")
        return self.weights[key]

    def _note(self, node: ir.Node, why: str) -> None:
        self.notes.append(f"{node.op_type} {node.name!r} computes in float, with float weights in the file: {why}")


_UNFIT = (
    "XNNPACK's kernels take int8 weights with one scale an output channel, and beside float activations 4-bit ones in groups "
    "of a multiple of 32 inputs"
)


_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def _is_plain(node: ir.Node) -> bool:
    if node.op_type == "MatMul":
        return True
    return not integer(node, "transA", 0) and real(node, "alpha", 1.0) == 1.0 and real(node, "beta", 1.0) == 1.0


def _to_integers(value: ir.Value) -> bool:
    """Whether a product is read by one quantizer to 8 bits alone, perhaps behind a Relu or Clip."""
    reader = only_consumer(value)
    if reader is not None and _is_fused(reader):
        reader = only_consumer(reader.outputs[0])
    return reader is not None and is_op(reader, "QuantizeLinear") and eight_bits(reader) is not None


def _is_dequantized(value: ir.Value) -> bool:
    """Whether a value is integers that no kernel takes, of 16 bits: they are not to be rounded to 8."""
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_fused(node: ir.Node) -> bool:
    """Whether a node is relu or hardtanh in the file, which kernels do on the way."""
    bounds = clip_bounds(node)
    return bounds is not None and (bounds == (0, math.inf) or not any(map(math.isinf, bounds)))


def eight_bits(node: ir.Node) -> tuple[float, int] | None:
    """Scale and zero point of a quantizer to, or a dequantizer from, 8 bits, moved to int8; None for any other."""
    scale = constant_array(node.inputs[1])
    dtype = (node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]).dtype  # type: ignore[union-attr]
    if scale is None or scale.size != 1 or scale.dtype != np.float32 or dtype not in OFFSETS:
        return None
    zero = constant_array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    return None if zero is None else (float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) - OFFSETS[dtype])
