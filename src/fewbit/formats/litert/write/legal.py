"""The scales that integer kernels insist on: where the graph has others, a Requantize is put between."""

from __future__ import annotations

import math

import numpy as np

from fewbit.formats.litert.rules import KERNELS, data_inputs
from fewbit.formats.litert.write.absorb import is_integer
from fewbit.formats.litert.write.graph import Graph, Op, Quant, Tensor, per_tensor


def legalize(graph: Graph) -> None:
    """Obey `fewbit.formats.litert.rules`: the same scale where integers are moved, known ones where the kernel has its own,
    and biases in int32 (int64 beside int16 activations) at the scale of input times weight."""
    ops: list[Op] = []
    made: dict[tuple[int, bytes], Tensor] = {}
    for op in graph.ops:
        kernel = KERNELS.get(op.kernel)
        if kernel is None or not is_integer(op):
            ops.append(op)
            continue
        after: list[Op] = []
        if kernel.output == "fixed":
            _fixed(op, *kernel.fixed[op.outputs[0].dtype], after)
        elif kernel.output == "same" and not _as_mean(op):
            _same(op, ops, after, made)
        if kernel.bias is not None:
            _bias(op, kernel.bias)
        ops.append(op)
        ops += after
    graph.ops = ops


def _as_mean(op: Op) -> bool:
    """Make a mean of a pool over a whole image to another scale: MEAN rounds once, to its own; a pool to its input's."""
    x = op.need(0)
    if op.kind != "AveragePool" or x.quant is None or x.quant.same(op.outputs[0].quant):
        return False
    whole = tuple(op.get("kernel_shape", ())) == x.shape[2:] and math.prod(op.outputs[0].shape[2:]) == 1
    if not whole or any(op.get("pads", (0,))) or op.activation != "NONE":
        return False
    op.kind = "GlobalAveragePool"
    return True


def _fixed(op: Op, scale: float, zero_point: int, after: list[Op]) -> None:
    wanted = op.outputs[0]
    quant = per_tensor(scale, zero_point)
    if not quant.same(wanted.quant):
        own = Tensor(f"{wanted.name}_fixed", wanted.shape, wanted.dtype, None, quant)
        op.outputs[0] = own
        after.append(Op("Requantize", own.name, [own], [wanted]))


def _same(op: Op, before: list[Op], after: list[Op], made: dict[tuple[int, bytes], Tensor]) -> None:
    """Inputs that differ from the first output are requantized before; other outputs that differ, after."""
    quant, dtype = op.outputs[0].quant, op.outputs[0].dtype
    if quant is None:
        return
    indices = data_inputs(op.kernel, len(op.inputs))
    if len(indices) == 1 and not quant.same(op.need(indices[0]).quant):
        # One input: moving first and requantizing what was moved is never more work than the other way round, except
        # where numbers are copied.
        source = op.need(indices[0])
        if source.quant is not None and op.kind not in ("Expand", "Tile", "Pad", "Resize", "Clip"):
            for index, wanted in enumerate(list(op.outputs)):
                if not source.quant.same(wanted.quant):
                    moved = Tensor(f"{wanted.name}_moved", wanted.shape, wanted.dtype, None, source.quant)
                    op.outputs[index] = moved
                    after.append(Op("Requantize", moved.name, [moved], [wanted]))
            return
    for index in indices:
        tensor = op.inputs[index]
        if tensor is not None and not quant.same(tensor.quant):
            op.inputs[index] = _requantized(tensor, quant, dtype, before, made)


def _requantized(
    tensor: Tensor, quant: Quant, dtype: str, before: list[Op], made: dict[tuple[int, bytes], Tensor]
) -> Tensor:
    key = (id(tensor), quant.scale.tobytes() + quant.zero_point.tobytes())
    if key not in made:
        made[key] = Tensor(f"{tensor.name}_requantized", tensor.shape, dtype, None, quant)
        before.append(Op("Requantize", made[key].name, [tensor], [made[key]]))
    return made[key]


def _bias(op: Op, index: int) -> None:
    bias = op.input(index)
    if bias is None or bias.data is None:
        return
    activation, weight = op.need(0), op.need(1)
    if activation.quant is None or weight.quant is None:
        return
    scale = (activation.quant.scale[0] * weight.quant.scale).astype(np.float32)
    wide = activation.dtype == "int16"
    axis = 0 if scale.size > 1 else None
    quant = Quant(scale, np.zeros(scale.size, np.int64), axis)
    data = bias.data.reshape(-1)
    exact = bias.quant is not None and np.array_equal(bias.quant.scale, scale) and bias.dtype == "int32"
    if not exact:
        real = bias.data if bias.quant is None else bias.quant.real(bias.data)
        steps = np.rint(real.reshape(-1).astype(np.float64) / scale)
        limit = 2.0**47 if wide else 2.0**31 - 1
        data = np.clip(steps, -limit, limit)
    op.inputs[index] = Tensor(
        bias.name, (data.size,), "int64" if wide else "int32", data.astype(np.int64 if wide else np.int32), quant
    )
