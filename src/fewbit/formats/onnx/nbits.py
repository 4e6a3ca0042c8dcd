"""Weight-only kernels of ONNX Runtime: MatMulNBits, and GatherBlockQuantized for tables.

Both read unsigned integers of 2, 4 or 8 bits, packed along the inputs from the lowest bits on, with a scale for every block
(ONNX Runtime, "Contrib Operators"): B (outputs, blocks, block · bits / 8) or the table (rows, inputs · bits / 8), scales
(outputs, blocks), zero points (outputs, blocks · bits / 8 rounded up), 2**(bits - 1) where there are none. Integers of other
widths lie in the next wider container: int3 takes the room of 4 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.affine import expand_blocks
from fewbit.core.packing import pack
from fewbit.formats.onnx.codewords import scale_constant
from fewbit.formats.onnx.emit import CONTRIB, Emitter, require
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import integer_weight
from fewbit.plan.plan import Plan
from fewbit.plan.weight_only import container_bits, kernel_block
from fewbit.spec import DType, QParams

_INT8_ACTIVATIONS = (
    4  # accuracy_level: float activations take 2 to 40 times as long at one row (benchmarks/weight_only.py)
)


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A weight as the kernels read it.

    data: uint8 (outputs, inputs · bits / 8), inputs filled up to whole blocks. scale: float32 (outputs, blocks).
    zero_point: uint8 (outputs, bytes), or None where all are 2**(bits - 1).
    """

    data: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.uint8] | None
    bits: int
    block: int


def packed(integers: NDArray[np.integer], params: QParams, out_axis: int, *, whole_blocks: bool) -> Packed:
    """A two-axis weight packed for the kernels.

    Args:
        integers: of `params.spec.dtype`, in the shape of the weight.
        whole_blocks: whether the inputs are filled up to whole blocks, as MatMulNBits wants them.
    """
    spec, shape = params.spec, integers.shape
    inputs = shape[1 - out_axis]
    size = spec.block_shape[1 - out_axis] if spec.block_shape else -1
    bits, block = container_bits(spec.dtype.bits), kernel_block(size, inputs)
    middle = 1 << (bits - 1)
    offset = middle if spec.dtype.kind == "int" else 0

    def blocks(values: NDArray[Any]) -> NDArray[Any]:
        full = np.broadcast_to(expand_blocks(values, shape, spec.block_shape), shape)
        return np.ascontiguousarray((full if out_axis == 0 else full.T)[:, ::block])

    rows = (integers if out_axis == 0 else integers.T).astype(np.int16) + offset
    zero = blocks(params.zero_point) + offset
    if whole_blocks:
        rows = np.pad(rows, ((0, 0), (0, -inputs % block)), constant_values=middle)
    return Packed(
        _packed_rows(rows, bits),
        blocks(params.scale).astype(np.float32),
        None if (zero == middle).all() else _packed_rows(zero, bits),
        bits,
        block,
    )


def matmul_nbits(emit: Emitter, plan: Plan, node: ir.Node) -> ir.Value:
    """MatMulNBits in place of a MatMul or Gemm; the runtime fuses the addition of a bias."""
    weight = weight_of(node)
    assert weight is not None
    given = _given(emit, plan, node, weight.out_axis, whole_blocks=True)
    outputs, inputs = weight.shape[weight.out_axis], weight.shape[weight.in_axis]
    data = given.data.reshape(outputs, -1, given.block * given.bits // 8)
    (result,) = emit.node(
        "MatMulNBits",
        [node.inputs[0], emit.constant(data, weight.name), *_scales(emit, given)],
        "product",
        dtype=ir.DataType.FLOAT,
        domain=CONTRIB,
        K=inputs,
        N=outputs,
        bits=given.bits,
        block_size=given.block,
        accuracy_level=_INT8_ACTIVATIONS,
    )
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        (result,) = emit.node("Add", [result, node.inputs[2]], "product", dtype=ir.DataType.FLOAT)
    return result


def gather_nbits(emit: Emitter, plan: Plan, node: ir.Node) -> ir.Value:
    """GatherBlockQuantized in place of a Gather of rows from a table."""
    weight = weight_of(node)
    assert weight is not None
    given = _given(emit, plan, node, 0, whole_blocks=False)
    data, *scales = emit.constant(given.data, weight.name), *_scales(emit, given)
    attributes = {"bits": given.bits, "block_size": given.block, "gather_axis": 0, "quantize_axis": 1}
    (rows,) = emit.node(
        "GatherBlockQuantized",
        [data, node.inputs[1], *scales],
        "rows",
        dtype=ir.DataType.FLOAT,
        domain=CONTRIB,
        **attributes,
    )
    return rows


def _given(emit: Emitter, plan: Plan, node: ir.Node, out_axis: int, *, whole_blocks: bool) -> Packed:
    weight = weight_of(node)
    assert weight is not None
    params = require(plan.sites[weight.name])
    return packed(integer_weight(emit.hub, plan, node, weight.value), params, out_axis, whole_blocks=whole_blocks)


def _scales(emit: Emitter, given: Packed) -> list[ir.Value | None]:
    scale = scale_constant(emit, given.scale)
    return [scale] if given.zero_point is None else [scale, emit.constant(given.zero_point, "zp")]


def _packed_rows(rows: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Each row packed into bytes of its own."""
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % (8 // bits))))
    return pack(filled, DType("uint", bits)).reshape(len(rows), -1)
