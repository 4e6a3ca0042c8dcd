"""Operators in the forms that suit LiteRT's kernels.

Products are by a constant matrix with a bias vector, or of two computed tensors; 1 / Sqrt is RSQRT.
"""

from __future__ import annotations

import math

import numpy as np

from fewbit.formats.litert.write.graph import Graph, Op, Tensor


def simplify(graph: Graph) -> None:
    """Leave Gemm alone where FULLY_CONNECTED does all of it, and spell it out elsewhere; find reciprocals of roots."""
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind == "Gemm":
            ops += _gemm(op)
        else:
            if op.kind == "MatMul":
                _flatten_weight(op)
            ops.append(op)
    graph.ops = ops
    _reciprocal_roots(graph)


def _reciprocal_roots(graph: Graph) -> None:
    """1 / Sqrt(x) and Reciprocal(Sqrt(x)), where nothing else reads the root."""
    producers, readers = graph.producers(), graph.readers()
    gone = []
    for op in graph.ops:
        inverse = op.kind == "Reciprocal" or (op.kind == "Div" and _is_one(op.need(0)))
        root = op.inputs[-1] if inverse else None
        source = producers.get(root) if root is not None else None
        if root is None or source is None or source.kind != "Sqrt":
            continue
        if len(readers[root]) == 1 and root not in graph.outputs and root.shape == op.outputs[0].shape:
            op.kind, op.inputs = "Rsqrt", list(source.inputs)
            gone.append(source)
    graph.remove(gone)


def _is_one(tensor: Tensor) -> bool:
    return (
        tensor.data is not None and tensor.quant is None and tensor.data.size == 1 and bool((tensor.data == 1.0).all())
    )


def _gemm(op: Op) -> list[Op]:
    weight, bias = op.need(1), op.input(2)
    output = op.outputs[0]
    width = output.shape[-1]
    alpha, beta = float(op.get("alpha", 1.0)), float(op.get("beta", 1.0))
    vector = bias is None or (bias.is_constant and bias.shape[-1:] == (width,) and math.prod(bias.shape) == width)
    if weight.is_constant and alpha == 1.0 and vector and (beta == 1.0 or bias is None):
        if bias is not None and bias.data is not None and bias.rank > 1:
            op.inputs[2] = Tensor(bias.name, (width,), bias.dtype, bias.data.reshape(-1), bias.quant)
        return [op]
    steps: list[Op] = []
    left = _turned(op, 0, bool(op.get("transA", 0)), steps)
    right = _turned(op, 1, bool(op.get("transB", 0)), steps)
    made = _step(op, "MatMul", [left, right], steps)
    if alpha != 1.0:
        made = _step(op, "Mul", [made, _number(op, "alpha", alpha)], steps)
    if bias is not None:
        addend = bias if beta == 1.0 else _step(op, "Mul", [bias, _number(op, "beta", beta)], steps)
        made = _step(op, "Add", [made, addend], steps)
    steps[-1].outputs = [output]
    return steps


def _turned(op: Op, index: int, turn: bool, steps: list[Op]) -> Tensor:
    tensor = op.need(index)
    if not turn:
        return tensor
    shape = (tensor.shape[1], tensor.shape[0])
    if tensor.data is None:
        return _step(op, "Transpose", [tensor], steps, shape, perm=(1, 0))
    quant = None if tensor.quant is None else tensor.quant.moved(tensor.shape, (1, 0))
    return Tensor(f"{tensor.name}_turned", shape, tensor.dtype, tensor.data.T, quant)


def _step(
    op: Op, kind: str, inputs: list[Tensor], steps: list[Op], shape: tuple[int, ...] | None = None, **attributes: object
) -> Tensor:
    if shape is None:
        shape = (
            (inputs[0].shape[0], inputs[1].shape[1])
            if kind == "MatMul"
            else np.broadcast_shapes(*(t.shape for t in inputs))
        )
    made = Tensor(f"{op.name}_{kind}_{len(steps)}", shape, "float32")
    steps.append(Op(kind, made.name, list(inputs), [made], dict(attributes)))
    return made


def _number(op: Op, what: str, value: float) -> Tensor:
    return Tensor(f"{op.name}_{what}", (), "float32", np.array(value, np.float32))


def _flatten_weight(op: Op) -> None:
    """A constant of one matrix with ones before it is a matrix."""
    weight = op.need(1)
    if weight.data is None or weight.rank <= 2 or weight.rank > op.need(0).rank or math.prod(weight.shape[:-2]) != 1:
        return
    extra = weight.rank - 2
    quant = weight.quant
    if quant is not None:
        if quant.block or (quant.axis is not None and quant.axis < extra):
            return
        quant = type(quant)(quant.scale, quant.zero_point, None if quant.axis is None else quant.axis - extra)
    data = weight.data.reshape(weight.shape[-2:])
    op.inputs[1] = Tensor(weight.name, data.shape, weight.dtype, data, quant)
