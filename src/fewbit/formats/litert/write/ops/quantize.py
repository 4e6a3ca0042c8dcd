"""Between real numbers and integers, and from one scale to another."""

from __future__ import annotations

import numpy as np

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op, per_tensor
from fewbit.formats.litert.write.ops.row import Row


def _convert(builtin: str, options: str) -> Row:
    def write(emit: Emitter, op: Op) -> None:
        x = op.need(0)
        layout = emit.layout(x)
        emit.call(builtin, [emit.read(x, layout)], [emit.make(op.outputs[0], layout)], options)

    return write


def _reinterpret(emit: Emitter, op: Op) -> None:
    """The same integers at another scale: a multiplication of int8 by the ratio of the scales, which is one of integers by 1
    and stays in XNNPACK; else a Reshape to the same shape, which copies them without looking at scales, and which XNNPACK
    refuses."""
    x, output = op.need(0), op.outputs[0]
    layout = emit.layout(x)
    source = emit.read(x, layout)
    have, wanted = x.quant, output.quant
    plain = have is not None and wanted is not None and have.axis is None and wanted.axis is None
    if plain and have and wanted and x.dtype == "int8" and np.array_equal(have.zero_point, wanted.zero_point):
        ratio = emit.constant(
            np.ones((), np.int8), "int8", per_tensor(float(wanted.scale[0] / have.scale[0]), 0), "ratio"
        )
        emit.call("MUL", [source, ratio], [emit.make(output, layout)], "MulOptions")
        return
    emit.reshape(source, emit.shape(source), emit.make(output, layout))


ROWS: dict[str, Row] = {
    "QuantizeLinear": _convert("QUANTIZE", "QuantizeOptions"),
    "Requantize": _convert("QUANTIZE", "QuantizeOptions"),
    "Reinterpret": _reinterpret,
    "DequantizeLinear": _convert("DEQUANTIZE", "DequantizeOptions"),
}
