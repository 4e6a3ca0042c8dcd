"""Plain QDQ with the arithmetic of integer kernels: what XNNPACK makes of a plan, bit by bit, computed by float operators.

Between a DequantizeLinear and a QuantizeLinear a float operator rounds its sums, and a deep network turns one other integer
into noise as large as that of its activations. Kernels add integers exactly, multiply the sum once in float32, and round. So
does a float operator on integers: its sums are exact up to 2**24.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.formats.onnx.dynamic import AS_IT_RUNS, quantize_as_it_runs
from fewbit.formats.onnx.emit import Emitter
from fewbit.formats.onnx.roundings import ROUNDS
from fewbit.graph.hub import Hub, constant_array
from fewbit.spec import DType

_MULTIPLIER_BITS = 20
_REQUANTIZED = 1 << 8
_POSITIVE = 1 << 30  # more than any sum of an addition, so that a division rounds down


@dataclass(frozen=True, slots=True)
class _Integers:
    """What a DequantizeLinear reads: real = (value - zero_point) * scale, scale float32 (), or (n,) along an axis."""

    value: ir.Value
    scale: NDArray[np.float32]
    zero_point: int

    @property
    def constant(self) -> NDArray[np.float32] | None:
        """The integers less the zero point, where they are a constant."""
        array = constant_array(self.value)
        return None if array is None else (array.astype(np.int64) - self.zero_point).astype(np.float32)


def with_integer_arithmetic(model: ir.Model) -> ir.Model:
    """A copy of a model in plain QDQ in which convolutions, dense layers, additions, products and means between integers are
    computed as the kernels do it, and floats rounded as they do; products that are marked to quantize their activation as they
    run do so. The rest is as it was."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    hub = Hub(model).clone()
    emit = Emitter(hub)
    for node in list(hub.graph):
        if AS_IT_RUNS in node.metadata_props:
            quantize_as_it_runs(emit, node)
    for node in list(hub.graph):
        if node.op_type == "QuantizeLinear":
            if ROUNDS in node.metadata_props or node.inputs[0] in hub.graph.inputs:
                _round(emit, node)
            else:
                _rewrite(emit, node)
        elif node.op_type == "DequantizeLinear" and "block_size" in node.attributes:
            _expand(emit, node)
    hub.graph.sort()
    RemoveUnusedNodesPass()(hub.model)  # what is replaced would be computed beside
    return hub.model


def _round(emit: Emitter, quantize: ir.Node) -> None:
    """A float times the reciprocal of a scale, which XNNPACK multiplies by, and rounds to even."""
    value, scale = quantize.inputs[0], None if quantize.inputs[1] is None else constant_array(quantize.inputs[1])
    if value is not None and scale is not None and scale.size == 1:
        reciprocal = np.asarray(np.float32(1.0) / scale.astype(np.float32).reshape(()))
        quantize.replace_input_with(0, _scaled(emit, value, reciprocal))
        quantize.replace_input_with(1, emit.scalar(1.0))


def _rewrite(emit: Emitter, quantize: ir.Node) -> None:
    value = quantize.inputs[0]
    node = None if value is None else value.producer()
    scale, zero = (None if v is None else constant_array(v) for v in quantize.inputs[1:3])
    if node is None or scale is None or zero is None or scale.size != 1:
        return
    out = np.float32(scale.reshape(())), int(zero.reshape(()))
    result: ir.Value | None = None
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        result = _product(emit, node, None, out[0])
    elif node.op_type == "AveragePool":
        x = _integers(node.inputs[0])
        if x is not None and x.scale.ndim == 0 and (np.float32(x.scale), x.zero_point) == out:
            result = _pool(emit, node, x)
    elif node.op_type == "Concat":
        result = _joined(emit, node, out[0])
    elif node.op_type in ("Add", "Mul", "GlobalAveragePool"):
        operands = [_integers(v) for v in node.inputs]
        before = [v.producer() if v is not None else None for v in node.inputs]
        matmul = next((p for p in before if p is not None and p.op_type == "MatMul"), None)
        bias = next((i for i in operands if i is not None and i.constant is not None), None)
        if node.op_type == "Add" and matmul is not None and bias is not None:
            result = _product(emit, matmul, bias, out[0])
        elif all(i is not None and i.scale.ndim == 0 for i in operands):
            found = [i for i in operands if i is not None]
            if node.op_type == "Add":
                result = _sum(emit, found, out[0])
            elif node.op_type == "Mul":
                (y,) = emit.node("Mul", [_centred(emit, i) for i in found], "exact", dtype=ir.DataType.FLOAT)
                result = _scaled(emit, y, found[0].scale * found[1].scale / out[0])
            else:
                result = _mean(emit, node, found[0], out[0])
    if result is not None:
        quantize.replace_input_with(0, result)
        quantize.replace_input_with(1, emit.scalar(1.0))


def _expand(emit: Emitter, dequantize: ir.Node) -> None:
    """Weights in blocks as the floats that they stand for: graphs before opset 21 cannot say it."""
    integers, scale = (None if v is None else constant_array(v) for v in dequantize.inputs[:2])
    if integers is None or scale is None:
        return
    axis, block = dequantize.attributes["axis"].as_int(), dequantize.attributes["block_size"].as_int()
    real = integers.astype(np.float32) * np.repeat(scale, block, axis).take(range(integers.shape[axis]), axis)
    for reader, index in list(dequantize.outputs[0].uses()):
        reader.replace_input_with(index, emit.constant(real, "exact"))
    emit.graph.remove(dequantize, safe=True)


def _integers(value: ir.Value | None) -> _Integers | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear" or "block_size" in node.attributes:
        return None
    stored = node.inputs[0]
    scale = constant_array(node.inputs[1]) if node.inputs[1] is not None else None
    zero = constant_array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if stored is None or scale is None or (zero is not None and zero.size > 1 and np.any(zero)):
        return None
    return _Integers(stored, scale.astype(np.float32), 0 if zero is None or zero.size > 1 else int(zero.reshape(())))


def _centred(emit: Emitter, integers: _Integers) -> ir.Value:
    """The integers less their zero point, as floats."""
    constant = integers.constant
    if constant is not None:
        return emit.constant(constant, "exact")
    stored = ir.DataType(integers.value.dtype) if integers.value.dtype is not None else ir.DataType.INT8
    zero = emit.constant(np.array(integers.zero_point, stored.numpy()), "zp")
    inputs: list[ir.Value | None] = [integers.value, emit.scalar(1.0), zero]
    domain = emit.domain_of(DType("int", 8 * stored.numpy().itemsize))
    return emit.node("DequantizeLinear", inputs, "exact", dtype=ir.DataType.FLOAT, domain=domain)[0]


def _scaled(emit: Emitter, value: ir.Value, factor: NDArray[np.float32]) -> ir.Value:
    return emit.node("Mul", [value, emit.constant(factor, "factor")], "exact", dtype=ir.DataType.FLOAT)[0]


def _product(emit: Emitter, node: ir.Node, bias: _Integers | None, scale: np.float32) -> ir.Value | None:
    """Sums of products in integers, times the scales of input and weight over that of the output."""
    x, w = _integers(node.inputs[0]), _integers(node.inputs[1])
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _integers(node.inputs[2])
        if bias is None:
            return None
    if x is None or w is None or x.scale.ndim or w.constant is None or (bias is not None and bias.constant is None):
        return None
    inputs: list[ir.Value | None] = [_centred(emit, x), _centred(emit, w)]
    if bias is not None and node.op_type != "MatMul":
        inputs.append(_centred(emit, bias))
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    (y,) = emit.node(node.op_type, inputs, "exact", dtype=ir.DataType.FLOAT, **attributes)
    if bias is not None and node.op_type == "MatMul":
        (y,) = emit.node("Add", [y, _centred(emit, bias)], "exact", dtype=ir.DataType.FLOAT)
    factor = (x.scale * w.scale / scale).astype(np.float32)
    if node.op_type == "Conv" and factor.ndim:
        rank = len(constant_array(w.value).shape)  # type: ignore[union-attr]
        factor = factor.reshape((-1,) + (1,) * (rank - 2))
    return _scaled(emit, y, factor)


def _mean(emit: Emitter, node: ir.Node, x: _Integers, scale: np.float32) -> ir.Value | None:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    sizes = [] if shape is None else [s for s in shape[2:] if isinstance(s, int)]
    if shape is None or len(sizes) != len(shape) - 2:
        return None
    (mean,) = emit.node(node.op_type, [_centred(emit, x)], "exact", dtype=ir.DataType.FLOAT)
    count = np.float32(np.prod(sizes))
    (total,) = emit.node("Round", [_scaled(emit, mean, np.asarray(count))], "exact", dtype=ir.DataType.FLOAT)
    return _scaled(emit, total, np.asarray(x.scale / (scale * count), np.float32))


def _pool(emit: Emitter, node: ir.Node, x: _Integers) -> ir.Value:
    """A mean at its input's scale, which LiteRT's own kernel takes of the stored integers: halves go away from zero."""
    stored = emit.node("Cast", [x.value], "exact", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)[0]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    (mean,) = emit.node("AveragePool", [stored], "exact", dtype=ir.DataType.FLOAT, **attributes)
    (sign,) = emit.node("Sign", [mean], "exact", dtype=ir.DataType.FLOAT)
    (size,) = emit.node("Abs", [mean], "exact", dtype=ir.DataType.FLOAT)
    (size,) = emit.node("Add", [size, emit.scalar(0.5)], "exact", dtype=ir.DataType.FLOAT)
    (size,) = emit.node("Floor", [size], "exact", dtype=ir.DataType.FLOAT)
    (mean,) = emit.node("Mul", [size, sign], "exact", dtype=ir.DataType.FLOAT)
    zero = emit.scalar(float(x.zero_point))
    return emit.node("Sub", [mean, zero], "exact", dtype=ir.DataType.FLOAT)[0]


def _joined(emit: Emitter, node: ir.Node, scale: np.float32) -> ir.Value | None:
    """Integers of several scales, each brought to one by a multiplier of 8 bits behind the point; halves go up."""
    parts: list[ir.Value | None] = []
    for value in node.inputs:
        x = _integers(value)
        if x is None or x.scale.ndim:
            return None
        part = _centred(emit, x)
        if np.float32(x.scale) != scale:
            multiplier = np.rint(np.float32(x.scale / scale) * _REQUANTIZED) / _REQUANTIZED
            part = _scaled(emit, part, np.asarray(multiplier, np.float32))
            (part,) = emit.node("Add", [part, emit.scalar(0.5)], "exact", dtype=ir.DataType.FLOAT)
            (part,) = emit.node("Floor", [part], "exact", dtype=ir.DataType.FLOAT)
        parts.append(part)
    axis = node.attributes["axis"].as_int()
    return emit.node("Concat", parts, "exact", dtype=ir.DataType.FLOAT, axis=axis)[0]


def _sum(emit: Emitter, operands: list[_Integers], scale: np.float32) -> ir.Value | None:
    """An addition with multipliers of 21 bits and one shift, which rounds half up."""
    ratios = [np.float32(i.scale / scale) for i in operands]
    exponent = int(np.frexp(max(ratios))[1]) - 1
    shift = _MULTIPLIER_BITS - exponent
    if not 12 <= shift <= 30:
        return None
    total: ir.Value | None = None
    for integers, ratio in zip(operands, ratios, strict=True):
        multiplier = np.array(int(np.rint(np.ldexp(np.float64(ratio), shift))), np.int64)
        part = _whole(emit, _centred(emit, integers))
        (part,) = emit.node("Mul", [part, emit.constant(multiplier, "multiplier")], "exact", dtype=ir.DataType.INT64)
        total = part if total is None else emit.node("Add", [total, part], "exact", dtype=ir.DataType.INT64)[0]
    offset = np.array((1 << (shift - 1)) + (_POSITIVE << shift), np.int64)
    (total,) = emit.node("Add", [total, emit.constant(offset, "offset")], "exact", dtype=ir.DataType.INT64)
    divisor = emit.constant(np.array(1 << shift, np.int64), "divisor")
    (total,) = emit.node("Div", [total, divisor], "exact", dtype=ir.DataType.INT64)
    (total,) = emit.node(
        "Sub", [total, emit.constant(np.array(_POSITIVE, np.int64), "offset")], "exact", dtype=ir.DataType.INT64
    )
    return emit.to_float(total)


def _whole(emit: Emitter, value: ir.Value) -> ir.Value:
    return emit.node("Cast", [value], "exact", dtype=ir.DataType.INT64, to=ir.DataType.INT64)[0]
