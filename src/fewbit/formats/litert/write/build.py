"""From the hub to the logical graph: attributes and constants as plain data, spelled-out activations as one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.formats.litert.write.graph import Graph, Op, Quant, Tensor
from fewbit.formats.litert.write.prepare import DOMAIN, HALF
from fewbit.formats.litert.write.unroll import unroll
from fewbit.graph.facts import find_patterns
from fewbit.graph.hub import ONNX_DOMAINS, Hub, constant_array, shape_of

_PATTERNS: dict[str, tuple[str, dict[str, Any]]] = {
    "gelu": ("Gelu", {"approximate": "none"}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "hard_swish": ("HardSwish", {}),
}
"""Functions that LiteRT has an operator for -> ONNX's operator and attributes."""

_DTYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.INT64: "int32",
    ir.DataType.INT32: "int32",
    ir.DataType.INT16: "int16",
    ir.DataType.UINT16: "uint16",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT4: "int4",
    ir.DataType.UINT4: "uint4",
    ir.DataType.INT2: "int2",
    ir.DataType.UINT2: "uint2",
    ir.DataType.BOOL: "bool",
}
"""Element types of the hub -> of the file. Interpreters compute with int32 where ONNX has int64."""


def build(hub: Hub) -> Graph:
    """The logical graph of a hub with fixed shapes.

    Raises:
        ModelError: an operator of another domain, or an element type that LiteRT does not have.
    """
    graph = _Builder(hub).run()
    unroll(graph)
    graph.prune()
    return graph


class _Builder:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.tensors: dict[ir.Value, Tensor] = {}
        self.notes: list[str] = []

    def run(self) -> Graph:
        hub = self.hub
        last: dict[ir.Node, tuple[str, dict[str, Any], ir.Value]] = {}
        inside: set[ir.Node] = set()
        for pattern in find_patterns(hub):
            if pattern.kind in _PATTERNS:
                kind, attributes = _PATTERNS[pattern.kind]
                last[pattern.nodes[-1]] = (kind, attributes, pattern.input)
                inside.update(pattern.nodes)
        inputs = [self.tensor(value) for value in hub.graph.inputs if value.const_value is None]
        self._note_wide(inputs)
        ops = []
        for node in hub.nodes():
            if node in last:
                kind, attributes, source = last[node]
                ops.append(Op(kind, str(node.name), [self.tensor(source)], [self.tensor(node.outputs[0])], attributes))
            elif node not in inside:
                ops += self._op(node)
        outputs = [self.tensor(value) for value in hub.graph.outputs]
        return Graph(ops, inputs, outputs, self.notes)

    def _note_wide(self, inputs: list[Tensor]) -> None:
        for value in (*self.hub.graph.inputs, *self.hub.graph.outputs):
            if value.dtype == ir.DataType.INT64:
                self.notes.append(f"{value.name!r} is int64 in the model and int32 in the file")

    def _op(self, node: ir.Node) -> list[Op]:
        kind = node.op_type
        if node.domain not in ONNX_DOMAINS and (node.domain, kind) != (DOMAIN, HALF):
            raise ModelError(
                f"{kind} {node.name!r} of the domain {node.domain!r} cannot be written as LiteRT; export the model without it"
            )
        attributes = {name: _plain(attribute) for name, attribute in node.attributes.items()}
        inputs = [None if value is None else self.tensor(value) for value in node.inputs]
        outputs = [self.tensor(value) for value in node.outputs if value.name]
        before: list[Op] = []
        if kind == "QuantizeLinear":
            outputs[0].quant = _quant(node, inputs, attributes)
            inputs = inputs[:1]
        elif kind == "DequantizeLinear" and inputs[0] is not None:
            inputs = [self._as_read(inputs[0], _quant(node, inputs, attributes), str(node.name), before)]
        return [*before, Op(kind, str(node.name), inputs, outputs, attributes)]

    def _as_read(self, integers: Tensor, quant: Quant, name: str, before: list[Op]) -> Tensor:
        """Integers with the scale at which they are read here, which need not be that at which they were made."""
        if integers.quant is None:
            integers.quant = quant
        if quant.same(integers.quant):
            return integers
        other = Tensor(f"{integers.name}_as_read", integers.shape, integers.dtype, integers.data, quant)
        if not integers.is_constant:
            before.append(Op("Reinterpret", f"{name}_reinterpreted", [integers], [other]))
        return other

    def tensor(self, value: ir.Value) -> Tensor:
        if value not in self.tensors:
            shape, dtype = shape_of(value), value.dtype
            data = constant_array(value)
            if data is not None and value.const_value is not None:
                dtype = value.const_value.dtype
            if dtype not in _DTYPES or (dtype == ir.DataType.FLOAT16 and data is None):
                raise ModelError(
                    f"tensor {value.name!r} is {getattr(dtype, 'name', 'of an unknown type')}, which LiteRT does not compute "
                    f"with; export the model in float32"
                )
            sizes = tuple(int(size) for size in shape or ())  # type: ignore[arg-type]
            if data is not None and dtype.bitwidth < 8:
                data = data.astype(np.int8)
            self.tensors[value] = Tensor(str(value.name), sizes, _DTYPES[dtype], data)
        return self.tensors[value]


def _plain(attribute: ir.Attr) -> Any:
    value = attribute.value
    return value.numpy() if isinstance(value, ir.TensorProtocol) else value


def _quant(node: ir.Node, inputs: list[Tensor | None], attributes: dict[str, Any]) -> Quant:
    """The scales of a QuantizeLinear or DequantizeLinear."""
    scale = inputs[1].data if inputs[1] is not None else None
    zero = inputs[2] if len(inputs) > 2 else None
    if scale is None or (zero is not None and zero.data is None):
        raise ModelError(
            f"{node.op_type} {node.name!r} has a computed scale or zero point; a LiteRT file needs constants"
        )
    flat = np.asarray(scale, np.float32).reshape(-1)
    if not (np.isfinite(flat) & (flat > 0)).all():
        worst = flat[~(np.isfinite(flat) & (flat > 0))][0]
        raise ModelError(
            f"{node.op_type} {node.name!r} has the scale {worst}; scales are positive numbers: quantize it anew"
        )
    points = (
        np.zeros(flat.shape, np.int64) if zero is None or zero.data is None else zero.data.astype(np.int64).reshape(-1)
    )
    if scale.ndim == 0 or scale.size == 1:
        return Quant(flat[:1], points[:1])
    rank = inputs[0].rank if inputs[0] is not None else 1
    return Quant(flat, points, int(attributes.get("axis", 1)) % rank, int(attributes.get("block_size", 0)))
