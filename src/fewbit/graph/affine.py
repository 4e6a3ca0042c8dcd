"""Fold y = k * x + s into the weights before or after it.

All arithmetic is in float64; the results are rounded to float32 once.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import ModelError
from fewbit.graph.edit import integers, is_op, real, set_constant, text
from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.ops import Weight, weight_of

Vector = NDArray[np.float64]


def foldable_weight(node: ir.Node) -> tuple[Weight | None, str]:
    """The float32 weight of a Conv, ConvTranspose, Gemm or MatMul, or None and why there is none."""
    weight = weight_of(node) if is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul") else None
    if weight is None:
        return None, f"the weight of {node.name} is not constant"
    if weight.index != 1:
        return None, f"the constant of {node.name} is its first operand"
    if weight.value.dtype != ir.DataType.FLOAT:
        return None, f"the weight of {node.name} is {weight.value.dtype}, not float32"
    if node.op_type == "MatMul" and len(weight.shape) != 2:
        return None, f"the weight of {node.name} is a stack of matrices"
    return weight, ""


def output_channels(node: ir.Node, weight: Weight) -> int:
    groups = weight.groups if node.op_type == "ConvTranspose" else 1
    return weight.shape[weight.out_axis] * groups


def input_channels(node: ir.Node, weight: Weight) -> int:
    groups = weight.groups if node.op_type == "Conv" else 1
    return weight.shape[weight.in_axis] * groups


def scale_output(hub: Hub, node: ir.Node, weight: Weight, factor: Vector, shift: Vector) -> str | None:
    """Make the node compute factor * y + shift in place of y; returns why not, if it cannot.

    factor, shift: one number an output channel. A MatMul has no bias, so its shift must be zero.
    """
    if node.op_type == "MatMul" and shift.any():
        return f"{node.name} is a MatMul, which has no bias"
    bias, obstacle = output_bias(hub, node, weight)
    if bias is None:
        return obstacle
    new_weight = _scaled(hub, node, weight, weight.out_axis, factor, grouped=node.op_type == "ConvTranspose")
    if node.op_type == "MatMul":
        return _write(hub, node, new_weight, None)
    return _write(hub, node, new_weight, bias * factor + shift)


def scale_input(hub: Hub, node: ir.Node, weight: Weight, factor: Vector, shift: Vector) -> str | None:
    """Make the node compute with factor * x + shift in place of x; returns why not, if it cannot.

    factor, shift: one number an input channel. With a shift a convolution must not pad: it would pad with 0, not shift.
    """
    if shift.any():
        if node.op_type == "MatMul":
            return f"{node.name} is a MatMul, which has no bias"
        if node.op_type == "ConvTranspose":
            return f"the borders of {node.name} see fewer inputs, so the shift is no constant there"
        if node.op_type == "Conv" and (
            any(integers(node, "pads", [0])) or text(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        ):
            return f"{node.name} pads with zeros, which the shift would have to change"
    bias, obstacle = output_bias(hub, node, weight)
    if bias is None:
        return obstacle
    array = np.asarray(weight.value.const_value.numpy(), np.float64)  # type: ignore[union-attr]
    if shift.any():
        bias = bias + _response(node, weight, array, shift)
    new_weight = _scaled(hub, node, weight, weight.in_axis, factor, grouped=node.op_type == "Conv")
    return _write(hub, node, new_weight, None if node.op_type == "MatMul" else bias)


def shift_output(hub: Hub, node: ir.Node, shift: Vector) -> None:
    """Make a Conv, Gemm, or MatMul that an addition of a constant follows, compute y + shift, one number an output channel.
    It must have a bias that `output_bias` can tell."""
    weight, reason = foldable_weight(node)
    add = bias_add(node)
    if add is not None:
        index = bias_index(add, node)
        held = np.asarray(hub.constant(add.inputs[index]), np.float64)
        set_constant(hub, add, index, (held + shift.reshape(held.shape)).astype(np.float32), f"{add.name}_bias")
        return
    bias = None if weight is None else output_bias(hub, node, weight)[0]
    if bias is None:
        raise ModelError(f"{node.name} cannot be shifted: {reason or 'its bias is not constant'}")
    set_constant(hub, node, 2, (bias + shift).astype(np.float32), f"{node.outputs[0].name}_bias")
    node.attributes.pop("beta", None)


def absorb_input_shift(hub: Hub, node: ir.Node, shift: Vector) -> None:
    """Make the node, which is given x - shift from now on, compute what it did with x. A convolution must not pad."""
    weight, reason = foldable_weight(node)
    if weight is None:
        raise ModelError(f"{node.name} cannot absorb a shift: {reason}")
    array = np.asarray(weight.value.const_value.numpy(), np.float64)  # type: ignore[union-attr]
    shift_output(hub, node, _response(node, weight, array, shift))


def _scaled(
    hub: Hub, node: ir.Node, weight: Weight, axis: int, factor: Vector, *, grouped: bool
) -> NDArray[np.float64]:
    """The weight with its slices along `axis` multiplied.

    grouped: the axis counts channels of one group, and the groups lie along the other channel axis.
    """
    array = np.asarray(weight.value.const_value.numpy(), np.float64)  # type: ignore[union-attr]
    if not grouped or weight.groups == 1:
        return array * factor.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    # Both convolutions keep the groups along axis 0 and this group's channels along axis 1.
    size = array.shape[0] // weight.groups
    per_group = np.repeat(factor.reshape(weight.groups, -1), size, axis=0)
    return array * per_group.reshape(*per_group.shape, *[1] * (array.ndim - 2))


def _response(node: ir.Node, weight: Weight, array: NDArray[np.float64], shift: Vector) -> Vector:
    """What a constant input gives, for each output channel."""
    if node.op_type in ("Gemm", "MatMul"):
        alpha = real(node, "alpha", 1.0)
        return alpha * (array @ shift if weight.in_axis == 1 else shift @ array)
    sums = array.reshape(array.shape[0], array.shape[1], -1).sum(-1)
    size = array.shape[0] // weight.groups
    per_group = np.repeat(shift.reshape(weight.groups, -1), size, axis=0)
    return (sums * per_group).sum(1)


def output_bias(hub: Hub, node: ir.Node, weight: Weight) -> tuple[Vector | None, str]:
    """The bias as it adds to the output, one number a channel, zeros if there is none."""
    channels = output_channels(node, weight)
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(channels), ""
    array = hub.constant(value)
    if array is None:
        return None, f"the bias of {node.name} is not constant"
    if array.size not in (1, channels) or (array.size == channels and array.ndim and array.shape[-1] != channels):
        return None, f"the bias of {node.name} has shape {list(array.shape)}, not one number a channel"
    beta = real(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
    return np.broadcast_to(array.astype(np.float64).reshape(-1) * beta, (channels,)), ""


def _write(hub: Hub, node: ir.Node, weight: NDArray[np.float64], bias: Vector | None) -> str | None:
    with np.errstate(over="ignore"):
        weight32 = weight.astype(np.float32)
        bias32 = None if bias is None else bias.astype(np.float32)
    if not np.isfinite(weight32).all() or (bias32 is not None and not np.isfinite(bias32).all()):
        return "the folded numbers are not finite"
    set_constant(hub, node, 1, weight32, f"{node.name}_weight")
    if bias32 is not None and ((len(node.inputs) > 2 and node.inputs[2] is not None) or bias32.any()):
        set_constant(hub, node, 2, bias32, f"{node.outputs[0].name}_bias")
        if node.op_type == "Gemm" and "beta" in node.attributes:
            del node.attributes["beta"]
    return None


def per_channel(constant: NDArray[np.generic], value: ir.Value, axis: int, channels: int) -> Vector | None:
    """A constant operand as one number a channel, if it broadcasts to `value` without widening it and varies along
    `axis` alone; None otherwise. Axis may be negative.
    """
    shape = shape_of(value)
    if constant.size == 1 and ((shape is not None and constant.ndim <= len(shape)) or constant.ndim == 0):
        return np.full(channels, float(constant.reshape(-1)[0]))
    if shape is None or constant.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - constant.ndim) + constant.shape
    axis %= len(shape)
    if full[axis] != channels or any(size != 1 for i, size in enumerate(full) if i != axis):
        return None
    return constant.astype(np.float64).reshape(-1)
