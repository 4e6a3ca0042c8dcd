"""Weights as narrow numbers, and the forms in which a node reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.codebook.floats import to_bfloat16
from fewbit.core.floats import to_float16
from fewbit.formats.onnx.codewords import expanded, needs_table, packed_integers
from fewbit.formats.onnx.emit import CONTRIB, Emitter, require
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import integer_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.select import MIN_STORED_ELEMENTS
from fewbit.plan.written import accumulator_bias
from fewbit.spec import DType


def integers_of(
    emit: Emitter, plan: Plan, node: ir.Node, value: ir.Value
) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """The integers and scales of a node's constant; scales are shaped to broadcast against the integers."""
    params = require(plan.sites[str(value.name)])
    integers = integer_weight(emit.hub, plan, node, value)
    scale = params.scale if params.scale.ndim == integers.ndim else params.scale.reshape((1,) * integers.ndim)
    return integers, scale


def dequantized_weight(
    emit: Emitter, plan: Plan, node: ir.Node, *, transpose: bool, zero_point: bool
) -> tuple[ir.Value, NDArray[np.float32]]:
    """DequantizeLinear of a node's weight, and its scales as a vector over the output channels (or one)."""
    weight = weight_of(node)
    assert weight is not None
    integers, scale = integers_of(emit, plan, node, weight.value)
    axis = weight.out_axis % integers.ndim
    if transpose:
        integers, axis = np.ascontiguousarray(integers.T), 1 - axis
    held = _held(emit, integers, plan.sites[weight.name], weight.name)
    return emit.dequantize_constant(held, scale, axis, zero_point=zero_point), scale.reshape(-1)


def _held(emit: Emitter, integers: NDArray[np.integer], site: SitePlan, hint: str) -> ir.Value:
    """The integers that a kernel reads; packed in the file where it is worth it."""
    assert site.spec is not None
    if site.spec.dtype.bits <= 4 and integers.size >= MIN_STORED_ELEMENTS:
        return packed_integers(emit, integers, site.spec.dtype, hint)
    return emit.constant(integers, hint)


def integer_bias(
    emit: Emitter, bias: NDArray[np.float32], input_scale: float, weight_scale: NDArray[np.float32]
) -> ir.Value:
    """DequantizeLinear of a bias in int32 at the scale of the accumulator."""
    scale = (np.float32(input_scale) * weight_scale).astype(np.float32)
    integers = emit.constant(accumulator_bias(bias, scale), "bias")
    return emit.dequantize_constant(integers, scale, 0, zero_point=False)


def stored_weight(emit: Emitter, plan: Plan, node: ir.Node, value: ir.Value) -> ir.Value:
    """A narrow constant that expands to float when the model is loaded: Cast, or Gather from a table, and Mul by the scale
    fold there."""
    site = plan.sites[str(value.name)]
    assert site.spec is not None
    hint = str(value.name)
    if is_half(site.spec.dtype):
        return emit.to_float(emit.constant(_half(emit, value, site.spec.dtype), hint))
    params = require(site)
    return expanded(emit, integer_weight(emit.hub, plan, node, value), params, hint)


def is_half(dtype: DType) -> bool:
    """Whether a weight is stored as 16-bit floats, which need no scale."""
    return dtype.kind in ("float", "bfloat")


def _half(emit: Emitter, value: ir.Value, dtype: DType) -> NDArray[Any]:
    real = np.asarray(emit.hub.constant(value), np.float32)
    return to_bfloat16(real) if dtype.kind == "bfloat" else to_float16(real)[0]


def gathers_rows(emit: Emitter, site: SitePlan) -> bool:
    """Whether an embedding can be gathered as it is stored: whole bytes that one Cast, and a scale a row, expand.
    The runtime gathers no 8-bit floats."""
    spec = site.spec
    if spec is None or needs_table(spec, emit.hub.opset) or spec.dtype.bits < 8 or spec.dtype.is_float8:
        return False
    return spec.symmetric and all(size == -1 for size in spec.block_shape[1:])


def gather_rows(emit: Emitter, plan: Plan, node: ir.Node) -> ir.Value:
    """An embedding whose table is narrow numbers: only the rows in use become float."""
    table, indices = node.inputs[0], node.inputs[1]
    assert table is not None
    site = plan.sites[str(table.name)]
    assert site.spec is not None
    hint, axis = str(table.name), node.attributes.get_int("axis", 0)
    stored: NDArray[Any]
    scale: NDArray[np.float32] | None
    if is_half(site.spec.dtype):
        stored, scale = _half(emit, table, site.spec.dtype), None
    else:
        stored, scale = integers_of(emit, plan, node, table)
    constant = emit.constant(stored, hint)
    (rows,) = emit.node("Gather", [constant, indices], "rows", dtype=constant.dtype, axis=axis)
    rows = emit.to_float(rows)
    if scale is None:
        return rows
    factor = emit.constant(scale, "scale")
    if scale.size > 1:  # one scale a row, gathered with it
        (factor,) = emit.node("Gather", [factor, indices], "rows", dtype=ir.DataType.FLOAT, axis=axis)
    return emit.node("Mul", [rows, factor], "rows", dtype=ir.DataType.FLOAT)[0]


def dynamic_matmul(emit: Emitter, plan: Plan, node: ir.Node, ranges: dict[ir.Value, tuple[ir.Value, ...]]) -> ir.Value:
    """DynamicQuantizeLinear → MatMulInteger → scale → bias, which the runtime fuses into one kernel.

    ranges: the quantized form of each activation, shared by the nodes that read it.
    """
    activation = node.inputs[0]
    assert activation is not None
    if activation not in ranges:
        ranges[activation] = emit.node("DynamicQuantizeLinear", [activation], "dynamic", outputs=3)
    quantized, scale, zero_point = ranges[activation]
    weight = weight_of(node)
    assert weight is not None
    integers, weight_scale = integers_of(emit, plan, node, weight.value)
    if node.op_type == "Gemm" and node.attributes.get_int("transB", False):
        integers = np.ascontiguousarray(integers.T)
    vector = weight_scale.reshape(-1) if weight_scale.size > 1 else weight_scale.reshape(())
    inputs: list[ir.Value | None] = [quantized, _held(emit, integers, plan.sites[weight.name], weight.name), zero_point]
    (product,) = emit.node("MatMulInteger", inputs, "product", dtype=ir.DataType.INT32)
    (product,) = emit.node("Cast", [product], "product", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
    (factor,) = emit.node("Mul", [scale, emit.constant(vector, "scale")], "scale", dtype=ir.DataType.FLOAT)
    (result,) = emit.node("Mul", [product, factor], "product", dtype=ir.DataType.FLOAT)
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        (result,) = emit.node("Add", [result, node.inputs[2]], "product", dtype=ir.DataType.FLOAT)
    return result


def dynamic_lstm(emit: Emitter, plan: Plan, node: ir.Node) -> tuple[ir.Value, ...]:
    """DynamicQuantizeLSTM of ONNX Runtime: weights (directions, inputs, 4·hidden), one scale a gate row."""
    inputs = list(node.inputs) + [None] * (8 - len(node.inputs))
    scales: list[ir.Value | None] = []
    for index in (1, 2):
        weight = inputs[index]
        assert weight is not None
        integers, scale = integers_of(emit, plan, node, weight)
        turned = np.ascontiguousarray(integers.transpose(0, 2, 1))
        inputs[index] = _held(emit, turned, plan.sites[str(weight.name)], str(weight.name))
        rows = np.ascontiguousarray(np.broadcast_to(scale, (*integers.shape[:2], 1))[..., 0])
        scales += [emit.constant(rows, "scale"), emit.constant(np.zeros(rows.shape, integers.dtype), "zp")]
    attributes = {name: attribute.value for name, attribute in node.attributes.items() if name != "layout"}
    return emit.node(
        "DynamicQuantizeLSTM",
        inputs[:8] + scales,
        "lstm",
        dtype=ir.DataType.FLOAT,
        outputs=len(node.outputs),
        domain=CONTRIB,
        **attributes,
    )
