"""Weights and biases in the form that kernels read."""

from __future__ import annotations

import numpy as np

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op, Quant, Tensor
from fewbit.formats.litert.write.layout import Layout

NONE = -1
"""The index of an input that is left out."""


def weight_of(emit: Emitter, op: Op, weight: Tensor, layout: Layout) -> int:
    """A weight in a layout: as the kernel reads it, or as float behind a Dequantize."""
    index = emit.read(weight, layout)
    return dequantized(emit, index) if op.expand and weight.quant is not None else index


def dequantized(emit: Emitter, index: int) -> int:
    """A constant of integers as float32 behind a Dequantize."""
    if index not in emit.widened:
        stored = emit.tensors[index]
        emit.widened[index] = emit.temporary(f"{stored.name}_float", stored.shape, stored, dtype="float32")
        emit.call("DEQUANTIZE", [index], [emit.widened[index]], "DequantizeOptions")
    return emit.widened[index]


def bias_of(emit: Emitter, op: Op, width: int) -> int:
    """The bias of a product; zeros where it has none, as kernels without one came late."""
    bias = op.input(2)
    if bias is not None:
        return emit.read(bias)
    activation, weight, output = op.need(0), op.need(1), op.outputs[0]
    if output.quant is None or activation.quant is None or weight.quant is None:
        return emit.constant(np.zeros(width, np.float32), "float32", hint="zeros")
    scale = (activation.quant.scale[0] * weight.quant.scale).astype(np.float32)
    quant = Quant(scale, np.zeros(scale.size, np.int64), 0 if scale.size > 1 else None)
    wide = activation.dtype == "int16"
    return emit.constant(np.zeros(width, np.int64), "int64" if wide else "int32", quant, "zeros")
