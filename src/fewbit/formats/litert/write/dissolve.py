"""QuantizeLinear and DequantizeLinear become facts about tensors.

First the integers of every quantized tensor get their scale and their final type (uint8 becomes int8, the same integers less
128). Then readers of a DequantizeLinear read the quantized tensor itself: which of them computes with integers is decided
later, in `absorb`.
"""

from __future__ import annotations

import numpy as np

from fewbit.errors import ModelError
from fewbit.formats.litert.rules import MOVES, data_inputs
from fewbit.formats.litert.write.graph import Array, Graph, Op, Quant, Tensor
from fewbit.formats.litert.write.prepare import HALF

_SIGNED = {"uint8": ("int8", 128), "uint16": ("int16", 1 << 15), "uint4": ("int4", 8), "uint2": ("int2", 2)}
"""Unsigned types -> the signed type of LiteRT's kernels, and what is subtracted."""

_LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767), "int4": (-8, 7), "int2": (-2, 1)}


def dissolve(graph: Graph) -> None:
    """Leave no DequantizeLinear and no QuantizeLinear of a constant.

    Raises:
        ModelError: integers whose scale nothing says, or of different scales where they are mixed.
    """
    _spread(graph)
    ends = set(graph.inputs) | set(graph.outputs)
    quantized = {t for op in graph.ops for t in (*op.inputs, *op.outputs) if t is not None and t.quant is not None}
    interface = {t for t in quantized & ends if t.dtype in _SIGNED}
    for tensor in quantized - interface:
        _make_signed(tensor)
    _check_sixteen(quantized)
    _keep_interface(graph, interface)
    changes: dict[Tensor, Tensor] = {}
    gone: list[Op] = []
    for op in graph.ops:
        source = op.inputs[0] if op.inputs else None
        if op.kind == HALF or (op.kind == "DequantizeLinear" and op.outputs[0] not in ends):
            changes[op.outputs[0]] = op.need(0)
            gone.append(op)
        elif op.kind == "QuantizeLinear" and source is not None and source.is_constant:
            target = op.outputs[0]
            target.data = _quantized(source, target)
            gone.append(op)
    graph.remove(gone)
    graph.replace(changes)
    _drop_repeated(graph)


def _drop_repeated(graph: Graph) -> None:
    """Integers that were dequantized and are quantized to the same scale again stay what they are."""
    changes: dict[Tensor, Tensor] = {}
    gone = []
    for op in graph.ops:
        if op.kind == "QuantizeLinear" and op.outputs[0] not in graph.outputs:
            source, target = op.need(0), op.outputs[0]
            if source.quant is not None and source.dtype == target.dtype and source.quant.same(target.quant):
                changes[target] = source
                gone.append(op)
    graph.remove(gone)
    graph.replace(changes)


def _spread(graph: Graph) -> None:
    """Carry scales along operators that move integers, forward and then backward."""
    for op in graph.ops:
        if op.kernel in MOVES and op.outputs[0].dtype in (*_LIMITS, *_SIGNED):
            known = [t for t in _data(op) if t.quant is not None and t.quant.axis is None]
            for target in (*_data(op), *op.outputs):
                if known and target.quant is None and _integers(target):
                    target.quant = known[0].quant
    for op in reversed(graph.ops):
        made = op.outputs[0] if op.outputs else None
        if op.kernel in MOVES and made is not None and made.quant is not None and made.quant.axis is None:
            for source in _data(op):
                if source.quant is None and _integers(source):
                    source.quant = made.quant
    _reinterpret(graph)
    for op in graph.ops:
        if op.kind in ("Clip", "Pad") and op.outputs[0].quant is not None and _integers(op.outputs[0]):
            for index in (1, 2):
                bound = op.input(index)
                if bound is not None and bound.dtype == op.outputs[0].dtype and bound.quant is None:
                    op.inputs[index] = Tensor(bound.name, bound.shape, bound.dtype, bound.data, op.outputs[0].quant)


def _reinterpret(graph: Graph) -> None:
    """Where integers were moved and then read at another scale, say so: it is no requantization."""
    ops: list[Op] = []
    for op in graph.ops:
        ops.append(op)
        source = _data(op)[0].quant if op.kernel in MOVES and _data(op) else None
        for index, output in enumerate(op.outputs):
            if source is not None and _integers(output) and _integers(_data(op)[0]) and not source.same(output.quant):
                moved = Tensor(f"{output.name}_as_made", output.shape, output.dtype, None, source)
                op.outputs[index] = moved
                ops.append(Op("Reinterpret", f"{output.name}_reinterpreted", [moved], [output]))
    graph.ops = ops


def _data(op: Op) -> list[Tensor]:
    chosen = (op.inputs[index] for index in data_inputs(op.kernel, len(op.inputs)))
    return [tensor for tensor in chosen if tensor is not None]


def _integers(tensor: Tensor) -> bool:
    return tensor.dtype in _LIMITS or tensor.dtype in _SIGNED


def _make_signed(tensor: Tensor) -> None:
    """The same integers in the signed type, with the zero point moved along."""
    if tensor.dtype not in _SIGNED or tensor.quant is None:
        return
    dtype, offset = _SIGNED[tensor.dtype]
    quant = tensor.quant
    tensor.quant = Quant(quant.scale, quant.zero_point - offset, quant.axis, quant.block)
    if tensor.data is not None:
        tensor.data = (tensor.data.astype(np.int32) - offset).astype(np.int8 if offset <= 128 else np.int16)
    tensor.dtype = dtype


def _check_sixteen(tensors: set[Tensor]) -> None:
    for tensor in sorted(tensors, key=lambda t: t.name):
        if tensor.dtype in ("int16", "uint16") and tensor.quant is not None and tensor.quant.zero_point.any():
            raise ModelError(
                f"{tensor.name!r} has 16 bits and the zero point {int(tensor.quant.zero_point[0])}, and LiteRT has "
                f"symmetric 16 bits alone; quantize it symmetric"
            )


def _keep_interface(graph: Graph, interface: set[Tensor]) -> None:
    """Inputs and outputs keep their unsigned type: a Requantize stands between them and the kernels."""
    for index, tensor in enumerate(graph.inputs):
        if tensor in interface:
            inner = Tensor(f"{tensor.name}_signed", tensor.shape, tensor.dtype, None, tensor.quant)
            _make_signed(inner)
            graph.replace({tensor: inner})
            graph.ops.insert(0, Op("Requantize", f"{tensor.name}_signed", [tensor], [inner]))
            graph.inputs[index] = tensor
    for index, tensor in enumerate(graph.outputs):
        if tensor in interface and tensor not in graph.inputs:
            inner = Tensor(f"{tensor.name}_signed", tensor.shape, tensor.dtype, None, tensor.quant)
            _make_signed(inner)
            for op in graph.ops:
                op.outputs = [inner if t is tensor else t for t in op.outputs]
            graph.replace({tensor: inner})
            graph.ops.append(Op("Requantize", f"{tensor.name}_signed", [inner], [tensor]))
            graph.outputs[index] = tensor


def _quantized(source: Tensor, target: Tensor) -> Array:
    """QuantizeLinear of a constant: rounded half to even, and saturated."""
    quant = target.quant
    if quant is None or source.data is None or target.dtype not in _LIMITS or quant.block:
        raise ModelError(f"constant {source.name!r} is quantized to {target.dtype} in a way that LiteRT cannot hold")
    shape = [1] * source.rank
    if quant.axis is not None:
        shape[quant.axis] = -1
    low, high = _LIMITS[target.dtype]
    steps = np.rint(source.data.astype(np.float32) / quant.scale.reshape(shape)) + quant.zero_point.reshape(shape)
    held: Array = np.clip(steps, low, high)
    return held.astype(np.int16 if target.dtype == "int16" else np.int8)
