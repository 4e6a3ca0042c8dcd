"""Products of matrices: FULLY_CONNECTED where the right one is constant, else BATCH_MATMUL."""

from __future__ import annotations

import numpy as np

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op, Tensor
from fewbit.formats.litert.write.layout import Layout, identity
from fewbit.formats.litert.write.ops.row import Row
from fewbit.formats.litert.write.ops.weights import bias_of, weight_of


def _gemm(emit: Emitter, op: Op) -> None:
    """Only those that `simplify` left: by a constant matrix, with a bias vector."""
    left = (1, 0) if op.get("transA", 0) else (0, 1)
    _fully_connected(emit, op, (op.need(0), left), op.need(1), 0 if op.get("transB", 0) else 1)


def _fully_connected(emit: Emitter, op: Op, source: tuple[Tensor, Layout], weight: Tensor, out_axis: int) -> None:
    x, layout = source
    order = emit.scrambled.get(x)
    if order is not None and weight.data is not None:
        data = np.take(weight.data, order, axis=1 - out_axis)
        weight = Tensor(f"{weight.name}_reordered", weight.shape, weight.dtype, data, weight.quant)
    hybrid = op.outputs[0].quant is None and weight.quant is not None and not op.expand
    inputs = [
        emit.read(x, layout),
        weight_of(emit, op, weight, (out_axis, 1 - out_axis)),
        bias_of(emit, op, op.outputs[0].shape[-1]),
    ]
    emit.call(
        "FULLY_CONNECTED",
        inputs,
        [emit.make(op.outputs[0])],
        "FullyConnectedOptions",
        keepNumDims=x.rank > 2,
        asymmetricQuantizeInputs=hybrid,
        fusedActivationFunction=op.activation,
    )


def _matmul(emit: Emitter, op: Op) -> None:
    if op.is_linear:
        _fully_connected(emit, op, (op.need(0), identity(op.need(0).rank)), op.need(1), 1)
        return
    a, b, output = op.need(0), op.need(1), op.outputs[0]
    first, adj_x = _operand(emit, a, (1, *a.shape))
    second, adj_y = _operand(emit, b, (*b.shape, 1))
    target = emit.make(output)
    product = target
    batch = a.shape[:-2]
    if a.rank > MOST_AXES and batch == b.shape[:-2]:
        rows, columns, inner = a.shape[-2], b.shape[-1], a.shape[-1]
        count = int(np.prod(batch))
        first = emit.reshape(first, (count, inner, rows) if adj_x else (count, rows, inner))
        second = emit.reshape(second, (count, columns, inner) if adj_y else (count, inner, columns))
        product = emit.temporary(f"{output.name}_product", (count, rows, columns), output)
    elif a.rank == 1 or b.rank == 1:
        rows, columns = a.shape[-2] if a.rank > 1 else 1, b.shape[-1] if b.rank > 1 else 1
        wide = np.broadcast_shapes(batch, b.shape[:-2])
        product = emit.temporary(f"{output.name}_product", (*wide, rows, columns), output)
    emit.call("BATCH_MATMUL", [first, second], [product], "BatchMatMulOptions", adjX=adj_x, adjY=adj_y)
    if product != target:
        emit.reshape(product, output.shape, target)


def _operand(emit: Emitter, tensor: Tensor, matrix: tuple[int, ...]) -> tuple[int, bool]:
    """An operand of a product: a vector as a matrix, and as it is where only its last two axes are exchanged."""
    if tensor.rank == 1:
        return emit.reshape(emit.read(tensor), matrix), False
    plain = identity(tensor.rank)
    exchanged = (*plain[:-2], plain[-1], plain[-2])
    if not tensor.is_constant and emit.layout(tensor) == exchanged:
        return emit.read(tensor, exchanged), True
    return emit.read(tensor), False


MOST_AXES = 5
"""Of operands of BATCH_MATMUL."""

ROWS: dict[str, Row] = {"Gemm": _gemm, "MatMul": _matmul}
