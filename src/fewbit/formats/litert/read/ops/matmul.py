"""Products of matrices, and look-ups in them."""

from __future__ import annotations

from typing import Any

from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.ops.conv import bias_of
from fewbit.formats.litert.read.ops.row import Row, activated, in_file_order


def _fully_connected(b: Builder, op: Operator, options: Any) -> None:
    """Weights [O, I]. Without keep_num_dims the input becomes a matrix first."""
    if options.weightsFormat:
        raise b.refuse(
            op, "has shuffled weights, which an old converter made for one kind of processor: convert it again"
        )
    rank, sizes = b.rank(op.inputs[0]), b.sizes(op.inputs[1])
    if sizes is None or len(sizes) != 2 or not sizes[1]:
        raise b.refuse(op, f"has weights of shape {sizes}: they have to be a matrix")
    bias = bias_of(b, op, 2)
    if options.keepNumDims and rank != 2:
        value = b.emit("MatMul", [b.real(op.inputs[0]), b.weight(op.inputs[1], [1, 0])])
        if bias is not None:
            value = b.emit("Add", [value, bias])
    else:
        before, value = b.sizes(op.inputs[0]), in_file_order(b, op.inputs[0])
        if rank != 2 or before is None or before[1] not in (sizes[1], None):
            value = b.emit("Reshape", [value, [-1, sizes[1]]])
        value = b.emit("Gemm", [value, b.weight(op.inputs[1], [0, 1]), bias], transB=1)
    b.put(op.outputs[0], activated(b, op, value, options.fusedActivationFunction))


def _batch_matmul(b: Builder, op: Operator, options: Any) -> None:
    values = []
    for index, adjoint in zip(op.inputs[:2], (options.adjX, options.adjY), strict=True):
        rank = b.known_rank(op, index)
        if rank < 2:
            raise b.refuse(op, f"multiplies a tensor of {rank} axes")
        perm = [*range(rank - 2), rank - 1, rank - 2]
        values.append(b.weight(index, perm) if adjoint else b.real(index))
    b.put(op.outputs[0], b.emit("MatMul", values))


def _embedding_lookup(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: indices, and the table whose rows they name."""
    b.put(op.outputs[0], b.emit("Gather", [b.real(op.inputs[1]), b.real(op.inputs[0])], axis=0))


ROWS: dict[str, Row] = {
    "FULLY_CONNECTED": Row(_fully_connected, "FullyConnectedOptions", 2),
    "BATCH_MATMUL": Row(_batch_matmul, "BatchMatMulOptions", 2),
    "EMBEDDING_LOOKUP": Row(_embedding_lookup, None, 2),
}
