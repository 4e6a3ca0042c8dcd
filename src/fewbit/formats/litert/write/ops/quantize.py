"""Between real numbers and integers, and from one scale to another."""

from __future__ import annotations

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op
from fewbit.formats.litert.write.ops.row import Row


def _convert(builtin: str, options: str) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = emit.layout(x)
        emit.call(builtin, [emit.read(x, layout)], [emit.make(op.outputs[0], layout)], options)

    return write


def _reinterpret(emit: Emitter, op: Op) -> None:
    """The same integers at another scale: a Reshape to the same shape, which copies them without looking at scales."""
    layout = emit.layout(op.need(0))
    source = emit.read(op.need(0), layout)
    emit.reshape(source, emit.shape(source), emit.make(op.outputs[0], layout))


ROWS: dict[str, Row] = {
    "QuantizeLinear": _convert("QUANTIZE", "QuantizeOptions"),
    "Requantize": _convert("QUANTIZE", "QuantizeOptions"),
    "Reinterpret": _reinterpret,
    "DequantizeLinear": _convert("DEQUANTIZE", "DequantizeOptions"),
}
