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


ROWS: dict[str, Row] = {
    "QuantizeLinear": _convert("QUANTIZE", "QuantizeOptions"),
    "Requantize": _convert("QUANTIZE", "QuantizeOptions"),
    "DequantizeLinear": _convert("DEQUANTIZE", "DequantizeOptions"),
}
