"""Which operators compute with integers: those between quantized tensors for which LiteRT has a kernel.

An operator whose data inputs are quantized and whose result only a QuantizeLinear reads makes the quantized tensor itself. The
others compute in float, behind Dequantize and before Quantize operators.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from fewbit.formats.litert.rules import BLOCK_MULTIPLE, BLOCKS, KERNELS, data_inputs
from fewbit.formats.litert.write.fuse import bounds
from fewbit.formats.litert.write.graph import Graph, Op, Quant, Tensor

_LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767)}
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""The axis of a weight along which it may have one scale each; a Gemm with transB: the other."""


def absorb(graph: Graph, *, hybrid: bool | Collection[str]) -> None:
    """Let operators make quantized tensors where they can, and dequantize what the others read.

    hybrid: whether a float operator with an integer weight quantizes its activation as it runs, where there is a kernel; or
    the names of those that do.
    """
    _clip_after(graph)
    _share(graph)
    _absorb(graph)
    _narrow_clips(graph)
    _dequantize(graph, hybrid)


def _clip_after(graph: Graph) -> None:
    """Quantize(Clip(x)) = Clip(Quantize(x)), as rounding keeps order: the kernel before can then make the integers."""
    producers, readers = graph.producers(), graph.readers()
    for op in graph.ops:
        clip = producers.get(op.need(0)) if op.kind == "QuantizeLinear" else None
        limits = None if clip is None else bounds(clip)
        if clip is None or limits is None or clip.need(0).quant is not None or clip.need(0).is_constant:
            continue
        if len(readers[clip.outputs[0]]) != 1 or clip.outputs[0] in graph.outputs:
            continue
        quantized = op.outputs[0]
        if quantized.quant is None or quantized.dtype not in _LIMITS:
            continue
        inner = Tensor(f"{quantized.name}_open", quantized.shape, quantized.dtype, None, quantized.quant)
        source = clip.need(0)
        clip.kind, clip.inputs, clip.outputs = "QuantizeLinear", [source], [inner]
        op.kind, op.attributes = "Clip", {"min": limits[0], "max": limits[1]}
        op.inputs = [inner]


def _share(graph: Graph) -> None:
    """Two QuantizeLinear of one value to the same integers are one."""
    first: dict[Tensor, list[Op]] = {}
    changes: dict[Tensor, Tensor] = {}
    gone = []
    for op in graph.ops:
        if op.kind != "QuantizeLinear":
            continue
        known = first.setdefault(op.need(0), [])
        target = op.outputs[0]
        same = next((o for o in known if o.outputs[0].dtype == target.dtype and _same(o.outputs[0], target)), None)
        if same is None or target in graph.outputs:
            known.append(op)
        else:
            changes[target] = same.outputs[0]
            gone.append(op)
    graph.remove(gone)
    graph.replace(changes)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.quant is not None and one.quant.same(other.quant)


def _absorb(graph: Graph) -> None:
    producers, readers = graph.producers(), graph.readers()
    gone: list[Op] = []
    reduced: dict[Op, list[Op]] = {}
    for op in graph.ops:
        source = producers.get(op.need(0)) if op.kind == "QuantizeLinear" else None
        if source is None or op.outputs[0].quant is None:
            continue
        value = op.need(0)
        if len(readers[value]) == 1 and value not in graph.outputs and computes_integers(source, op.outputs[0].dtype):
            reduced.setdefault(source, []).append(op)
    for source, quantizers in reduced.items():
        if len(quantizers) == len(source.outputs):  # every output of a Split
            for op in quantizers:
                source.outputs[source.outputs.index(op.need(0))] = op.outputs[0]
            gone += quantizers
    graph.remove(gone)


def computes_integers(op: Op, dtype: str) -> bool:
    """Whether LiteRT has a kernel for an operator that reads what it does and makes integers of this type."""
    kernel = KERNELS.get(op.kernel)
    if kernel is None or dtype not in kernel.types or not op.outputs:
        return False
    for index in data_inputs(op.kernel, len(op.inputs)):
        tensor = op.input(index)
        if tensor is None:
            continue
        if index == kernel.weight and tensor.is_constant:
            if not fits_weight(op, tensor, dtype):
                return False
        elif tensor.quant is None or tensor.dtype != dtype or tensor.quant.axis is not None:
            return False
    if op.kind == "Gelu" and op.get("approximate", "none") not in ("none", "tanh"):
        return False
    return dtype != "int16" or all(
        t is None or t.quant is None or t.is_constant or not t.quant.zero_point.any() for t in op.inputs
    )


def fits_weight(op: Op, weight: Tensor, activation: str) -> bool:
    """Whether a kernel takes a constant as its weight: symmetric, one scale for all or for each output channel."""
    quant = weight.quant
    kernel = KERNELS[op.kernel]
    if quant is None or weight.dtype not in kernel.weights[activation] or quant.zero_point.any():
        return False
    axis = _CHANNEL_AXIS[op.kind]
    if op.kind == "Gemm" and op.get("transB", 0):
        axis = 0
    if quant.block:
        whole = quant.block % BLOCK_MULTIPLE == 0
        return activation == "float32" and BLOCKS.get(op.kind) == weight.dtype and quant.axis == 1 - axis and whole
    return quant.axis is None or quant.axis == axis


def _narrow_clips(graph: Graph) -> None:
    """A Clip of integers is left out where their type saturates so anyway, and fused where a kernel has it."""
    producers, readers = graph.producers(), graph.readers()
    gone = []
    changes: dict[Tensor, Tensor] = {}
    for op in graph.ops:
        limits = bounds(op)
        source = op.inputs[0] if op.inputs else None
        if limits is None or source is None or source.quant is None or not _same(source, op.outputs[0]):
            continue
        if source.dtype not in _LIMITS or op.outputs[0] in graph.outputs or source in graph.outputs:
            continue
        low, high = (levels(x, source.quant, source.dtype) for x in limits)
        floor, ceiling = _LIMITS[source.dtype]
        if (low, high) == (floor, ceiling):
            gone.append(op)
            changes[op.outputs[0]] = source
            continue
        maker = producers.get(source)
        name = None
        if low == int(source.quant.zero_point[0]):
            name = "RELU" if high == ceiling else "RELU6" if limits[1] == 6.0 else None
        if name and maker and maker.activation == "NONE" and len(readers[source]) == 1 and _takes_activation(maker):
            maker.activation = name
            maker.outputs = op.outputs
            producers[op.outputs[0]] = maker
            gone.append(op)
    graph.remove(gone)
    graph.replace(changes)


def _takes_activation(op: Op) -> bool:
    return op.kind in ("Conv", "Gemm", "Add", "Mul", "Sub") or op.is_linear


def levels(real: float, quant: Quant, dtype: str) -> int:
    """The integer that stands for a number, of one scale, held to the type."""
    low, high = _LIMITS[dtype]
    if math.isinf(real):
        return low if real < 0 else high
    step = float(np.rint(np.float32(real) / quant.scale[0])) + int(quant.zero_point[0])
    return int(min(max(step, low), high))


def _dequantize(graph: Graph, hybrid: bool | Collection[str]) -> None:
    """Put a Dequantize before every operator that computes in float and reads integers."""
    made: dict[Tensor, Tensor] = {}
    ops: list[Op] = []
    for op in graph.ops:
        for index, tensor in enumerate(op.inputs) if not is_integer(op) else ():
            if tensor is None or tensor.quant is None:
                continue
            if tensor.is_constant:
                as_it_runs = hybrid if isinstance(hybrid, bool) else op.name in hybrid
                op.inputs[index] = _float_constant(graph, op, index, tensor, as_it_runs)
                continue
            if tensor not in made:
                made[tensor] = Tensor(f"{tensor.name}_float", tensor.shape, "float32")
                ops.append(Op("DequantizeLinear", f"{tensor.name}_float", [tensor], [made[tensor]]))
            # A hybrid kernel would quantize this activation once more, by scales that it finds itself.
            op.expand = op.expand or index == 0
            op.inputs[index] = made[tensor]
        ops.append(op)
    graph.ops = ops


def is_integer(op: Op) -> bool:
    """Whether an operator of the finished graph computes with integers, or moves between them and float."""
    if op.kind in ("Requantize", "DequantizeLinear", "QuantizeLinear"):
        return True
    if not op.outputs or op.kind in ("ArgMax", "ArgMin"):
        return True
    return op.outputs[0].quant is not None


def _float_constant(graph: Graph, op: Op, index: int, tensor: Tensor, hybrid: bool) -> Tensor:
    """What a float operator reads of a quantized constant: weights and tables as integers, others as float."""
    data, quant = tensor.data, tensor.quant
    if data is None or quant is None:
        return tensor
    kernel = KERNELS.get(op.kernel)
    if kernel is not None and index == kernel.weight:
        op.expand = op.expand or not hybrid or not fits_weight(op, tensor, "float32")
        if not op.expand and op.kind == "Conv" and int(op.get("group", 1)) > 1 and quant.axis is None:
            channels = tensor.shape[0]
            each = Quant(np.repeat(quant.scale, channels), np.repeat(quant.zero_point, channels), 0)
            return Tensor(tensor.name, tensor.shape, tensor.dtype, data, each)
        if not quant.block or not op.expand:
            return tensor
    elif op.kind == "Gather" and index == 0 and not quant.block:
        return tensor
    if quant.block:
        graph.notes.append(
            f"{tensor.name!r} is float32 in the file: LiteRT has no {tensor.dtype} in blocks of {quant.block} for {op.kind}"
        )
    return Tensor(tensor.name, tensor.shape, "float32", quant.real(data))
