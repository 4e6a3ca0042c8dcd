"""The ends of a graph in plain QDQ as the integers that stand for them, for files whose interface is integers."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.formats.onnx.emit import Emitter
from fewbit.graph.hub import Hub, constant_array

_PARAMETERS = slice(1, 3)  # inputs of QuantizeLinear and DequantizeLinear: scale and zero point


def with_integer_ends(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """A copy of a model whose float inputs are integers where they are only quantized, and whose float outputs are integers
    where they are only dequantized; and notes on the ends that stay floats."""
    hub = Hub(model).clone()
    emit, left = Emitter(hub), []
    for index, value in enumerate(list(hub.graph.inputs)):
        if value.dtype == ir.DataType.FLOAT and value.const_value is None and not _take_integers(emit, index):
            left.append(f"input {value.name} stays float32: what reads it computes with floats")
    for index, value in enumerate(list(hub.graph.outputs)):
        if value.dtype == ir.DataType.FLOAT and not _give_integers(emit, index):
            left.append(f"output {value.name} stays float32: what makes it computes with floats")
    hub.graph.sort()
    return hub.model, tuple(left)


def _take_integers(emit: Emitter, index: int) -> bool:
    """Make of an input the integers that its one quantizer makes of it."""
    value = emit.graph.inputs[index]
    readers = set(value.consumers())
    quantizer = next(iter(readers), None)
    if len(readers) != 1 or quantizer is None or quantizer.op_type != "QuantizeLinear" or value.is_graph_output():
        return False
    made = quantizer.outputs[0]
    given = ir.Value(name=value.name, type=ir.TensorType(made.dtype or ir.DataType.INT8), shape=value.shape)
    value.name = emit.name("old")
    if all(reader.op_type == "DequantizeLinear" and _same_numbers(quantizer, reader) for reader in made.consumers()):
        for reader, at in list(made.uses()):
            reader.replace_input_with(at, given)
        emit.graph.remove(quantizer, safe=True)
    else:  # what reads it has another scale, and the scale of an end is that of its readers
        domain, dtype = quantizer.domain, ir.DataType.FLOAT
        inputs = [given, *quantizer.inputs[_PARAMETERS]]
        (real,) = emit.node("DequantizeLinear", inputs, "dq", dtype=dtype, domain=domain)
        quantizer.replace_input_with(0, real)
    emit.graph.inputs[index] = given
    return True


def _give_integers(emit: Emitter, index: int) -> bool:
    """Make of an output the integers that it is the real numbers of."""
    outputs = emit.graph.outputs
    value, last = outputs[index], outputs[index].producer()
    if last is not None and last.op_type == "Identity" and last.inputs[0] is not None:
        last = last.inputs[0].producer()
    if last is None or last.op_type != "DequantizeLinear" or last.inputs[0] is None:
        return False
    stored = last.inputs[0]
    quantizer = stored.producer()
    if stored.is_graph_output() or quantizer is None or not _same_numbers(quantizer, last):
        # Another scale than that of the integers, or integers that are an end already: a tensor of their own.
        inputs, dtype = [last.outputs[0], *last.inputs[_PARAMETERS]], stored.dtype or ir.DataType.INT8
        (stored,) = emit.node("QuantizeLinear", inputs, "q", dtype=dtype, domain=last.domain)
    name, value.name = value.name, emit.name("old")
    stored.name, stored.shape = name, value.shape
    outputs[index] = stored
    return True


def _same_numbers(quantizer: ir.Node, dequantizer: ir.Node) -> bool:
    """Whether a QuantizeLinear has the scale and zero point of what reads it."""
    if quantizer.op_type != "QuantizeLinear":
        return False
    for one, other in zip(quantizer.inputs[_PARAMETERS], dequantizer.inputs[_PARAMETERS], strict=True):
        left, right = (None if v is None else constant_array(v) for v in (one, other))
        if left is None or right is None or left != right:
            return False
    return True
