"""Operators that a LiteRT kernel does along with the one before it: the bias of a product, and activations."""

from __future__ import annotations

import math

import numpy as np

from fewbit.formats.litert.write.graph import Graph, Op, Quant, Tensor

_FUSES = frozenset(("Conv", "Gemm", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool"))
"""Operators whose kernels have a fused activation; a MatMul has one where it is written as FULLY_CONNECTED."""

_ACTIVATIONS = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def fuse_bias(graph: Graph) -> None:
    """MatMul by a constant matrix and Add of a constant vector become a MatMul with three inputs."""
    producers, readers = graph.producers(), graph.readers()
    gone = []
    for op in graph.ops:
        if op.kind != "Add" or op.activation != "NONE":
            continue
        for index in (0, 1):
            product, bias = op.need(index), op.need(1 - index)
            source = producers.get(product)
            if source is None or not source.is_linear or len(source.inputs) > 2 or product in graph.outputs:
                continue
            width = product.shape[-1]
            flat = bias.is_constant and bias.shape[-1:] == (width,) and math.prod(bias.shape) == width
            if flat and bias.rank <= product.rank and len(readers[product]) == 1:
                data, quant = None if bias.data is None else bias.data.reshape(-1), bias.quant
                if quant is not None and quant.axis is not None:
                    quant = Quant(quant.scale, quant.zero_point, 0)
                source.inputs.append(Tensor(bias.name, (width,), bias.dtype, data, quant))
                source.outputs = op.outputs
                gone.append(op)
                break
    graph.remove(gone)


def fuse_activations(graph: Graph) -> None:
    """A Relu, or a Clip to 0..6 or -1..1, goes into the only operator that it reads from; of others from 0 a Relu."""
    producers, readers = graph.producers(), graph.readers()
    gone = []
    for op in graph.ops:
        limits = bounds(op)
        source = None if limits is None else producers.get(op.need(0))
        if (
            limits is None
            or source is None
            or not (source.kind in _FUSES or source.is_linear)
            or source.activation != "NONE"
            or source.outputs[0].dtype != "float32"
            or source.outputs[0] in graph.outputs
            or len(readers[source.outputs[0]]) != 1
            or len(source.outputs) != 1
        ):
            continue
        if limits in _ACTIVATIONS:
            source.activation = _ACTIVATIONS[limits]
            source.outputs = op.outputs
            producers[op.outputs[0]] = source
            gone.append(op)
        elif limits[0] == 0.0 < limits[1]:
            source.activation = "RELU"
            op.inputs, op.attributes = [op.need(0)], {"max": limits[1]}
    graph.remove(gone)


def bounds(op: Op) -> tuple[float, float] | None:
    """(lowest, highest) result of a Relu or of a Clip with constant bounds, else None. Quantized bounds count as real."""
    if op.kind == "Relu":
        return 0.0, math.inf
    if op.kind != "Clip":
        return None
    found = [float(op.get("min", -math.inf)), float(op.get("max", math.inf))]
    for index in (1, 2):
        bound = op.input(index)
        if bound is None:
            continue
        if bound.data is None or bound.data.size != 1:
            return None
        number = np.asarray(bound.data).reshape(1)
        found[index - 1] = float((bound.quant.real(number) if bound.quant is not None else number)[0])
    return found[0], found[1]
