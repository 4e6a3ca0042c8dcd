"""Kernels that read packed integer weights beside float activations: what they take, and where they pay."""

from __future__ import annotations

import math

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.graph.tails import state_inputs
from fewbit.plan.recipe import WeightSetting
from fewbit.targets import Target

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256
"""Weights that may share a scale in MatMulNBits of ONNX Runtime: a power of two within these."""

_CHANNEL_BLOCK = 128  # a channel's scale is repeated so often: larger blocks gain no speed


def container_bits(bits: int) -> int:
    """The width that a kernel gives an integer of 2 to 8 bits: 2, 4 or 8."""
    return next(width for width in (2, 4, 8) if bits <= width)


def kernel_block(size: int, inputs: int) -> int:
    """How many of `inputs` weights share a scale in the kernel where `size` do in the plan (-1: all): the largest power
    of two that divides the group; below `SMALLEST_BLOCK` the kernel cannot."""
    if size == -1 or size >= inputs:
        return min(_CHANNEL_BLOCK, max(SMALLEST_BLOCK, 1 << (inputs - 1).bit_length()))
    return min(LARGEST_BLOCK, size & -size)


def refuse_kernel(node: ir.Node, setting: WeightSetting, target: Target) -> str | None:
    """Why the weight-only kernels cannot compute a node with a weight, or None."""
    weight, rule = weight_of(node), target.rule(node.op_type)
    assert weight is not None  # select asked
    if setting.dtype not in rule.packed:
        return f"the kernel takes {', '.join(map(str, rule.packed))} weights, not {setting.dtype}"
    if len(weight.shape) != 2:
        return f"the kernel takes weights of two axes, not {len(weight.shape)}"
    inputs = weight.shape[weight.in_axis]
    if setting.granularity == "group" and kernel_block(setting.group_size, inputs) < SMALLEST_BLOCK:
        return f"the kernel takes groups of a multiple of {SMALLEST_BLOCK} weights, not {setting.group_size}"
    odd = setting.group_size % target.block_multiple or inputs % setting.group_size
    if setting.granularity == "group" and target.block_multiple > SMALLEST_BLOCK and odd:
        return (
            f"the kernel takes {target.block_multiple} inputs or a multiple to a scale, with no rest; not groups of "
            f"{setting.group_size} among {inputs}"
        )
    if any(_axes(reader) != (weight.out_axis, weight.in_axis) for reader in weight.value.consumers()):
        return "another node reads the same weight along other axes"
    if node.op_type == "Gather":
        if weight.out_axis != 0:
            return "the kernel gathers rows, along axis 0"
        if inputs * container_bits(setting.dtype.bits) % 8:
            return f"rows of {inputs} values of {setting.dtype} do not fill whole bytes"
        return None
    if weight.index != 1:
        return "the constant is the left operand"
    attributes = node.attributes
    if node.op_type == "Gemm":
        if attributes.get_float("alpha", 1.0) != 1.0 or attributes.get_float("beta", 1.0) != 1.0:
            return "alpha and beta differ from 1"
        if attributes.get_int("transA", False):
            return "the activation is transposed"
    return None


def refuse_cost(hub: Hub, node: ir.Node, target: Target) -> str | None:
    """Why the weight-only kernel of a MatMul or Gemm would be slower than float, or None. Tables are gathered at no
    cost that counts."""
    weight = weight_of(node)
    assert weight is not None
    if node.op_type == "Gather" or not target.weight_only_rows:
        return None
    most = rows_that_pay(weight, target)
    if not most:
        least = min(size for size, _ in target.weight_only_rows)
        return f"its weight has {math.prod(weight.shape)} elements, MatMulNBits is faster than float from {least} on"
    rows = activation_rows(hub, node)
    if rows is None and not state_inputs(hub):
        return f"it is not known how many rows it reads, and MatMulNBits is slower than float above {most}"
    if rows is not None and rows > most:
        return f"it reads {rows} rows, and MatMulNBits is slower than float above {most}"
    return None


def rows_that_pay(weight: Weight, target: Target) -> int:
    """The most activation rows for which the weight-only kernel is no slower than float."""
    elements = math.prod(weight.shape)
    return max((rows for size, rows in target.weight_only_rows if elements >= size), default=0)


def activation_rows(hub: Hub, node: ir.Node) -> int | None:
    """How many rows a MatMul or Gemm multiplies at batch 1; None where that is not known.

    A first axis that is named as the first axis of a model input is the batch.
    """
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return None
    batches = {d.value for v in hub.graph.inputs if v.shape for d in (v.shape[0],) if not isinstance(d, int)} - {None}
    rows = 1
    for axis, size in enumerate(list(shape)[:-1]):
        if isinstance(size, int):
            rows *= size
        elif axis != 0 or size.value not in batches:
            return None
    return rows


def _axes(reader: ir.Node) -> tuple[int, int] | None:
    weight = weight_of(reader)
    return None if weight is None else (weight.out_axis, weight.in_axis)
