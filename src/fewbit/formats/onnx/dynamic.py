"""Products that quantize their activation as they run, with the arithmetic of XNNPACK's hybrid kernels (`qd8`).

Each row (of a convolution: each image, or each pixel) has a scale and a zero point of its own, from its least and greatest
number. Integers are summed exactly, as in `fewbit.formats.onnx.exact`; the sum is scaled in float32, in the order of the
kernels.

Source: XNNPACK, src/xnnpack/quantization.h (xnn_qdu8_asymmetric_quantization_params), src/f32-qu8-vcvt, src/qd8-f32-qc8w-gemm
and src/qd8-f32-qb4w-gemm; tests/formats/onnx/test_dynamic.py has the numbers of LiteRT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.formats.onnx.emit import Emitter
from fewbit.graph.edit import integer, is_op, real
from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import constant_array

AS_IT_RUNS = "fewbit.as_it_runs"
"""Key in the metadata of a lowered node that quantizes its activation as it runs."""

_STEPS = 255.0  # between the least and the greatest integer of 8 bits
_BLOCK_MULTIPLE = 32  # of weights of 4 bits, which alone have kernels in blocks
_AXES_ARE_AN_INPUT = 18  # opset from which ReduceMin and ReduceMax take their axes so


@dataclass(frozen=True, slots=True)
class _Weight:
    """A constant behind a DequantizeLinear without zero points.

    integers: as float32. scale: float32, () or (n,) along `axis`, or in blocks: of the rank of the integers. block: how many
        integers along `axis` share a scale, 0 where they lie otherwise.
    """

    integers: NDArray[np.float32]
    scale: NDArray[np.float32]
    axis: int
    block: int


def quantize_as_it_runs(emit: Emitter, node: ir.Node) -> None:
    """Put the arithmetic of the hybrid kernel in the place of a product, where there is one for it: of a float activation, by
    an integer weight with one scale an output channel or a block of inputs."""
    x, weight = node.inputs[0], _weight(node.inputs[1])
    maker = None if x is None else x.producer()
    if x is None or weight is None or (maker is not None and maker.op_type == "DequantizeLinear"):
        return
    if is_op(node, "Conv"):
        if integer(node, "group", 1) == 1 and (weight.scale.ndim == 0 or weight.axis == 0) and not weight.block:
            _Kernel(emit, x, _axes(node, weight.integers.shape)).convolution(node, weight)
        return
    turned = bool(integer(node, "transB", 0))
    plain = not integer(node, "transA", 0) and real(node, "alpha", 1.0) == 1.0 and real(node, "beta", 1.0) == 1.0
    fits = weight.scale.ndim == 0 or (weight.axis == (0 if turned else 1)) != bool(weight.block)
    if is_op(node, "Gemm", "MatMul") and weight.integers.ndim == 2 and plain and fits:
        _Kernel(emit, x, [-1]).product(node, weight, turned)


def _axes(convolution: ir.Node, weight: tuple[int, ...]) -> list[int]:
    """The axes that share a scale: all of an image, or the channels of each pixel where LiteRT makes rows of pixels."""
    pads, strides = (convolution.attributes.get(name) for name in ("pads", "strides"))
    rows = set(weight[2:]) == {1} and (pads is None or not any(pads.as_ints()))
    return [1] if rows and (strides is None or set(strides.as_ints()) == {1}) else list(range(1, len(weight)))


def _weight(value: ir.Value | None) -> _Weight | None:
    node = None if value is None else value.producer()
    if node is None or node.op_type != "DequantizeLinear":  # of 4 bits it may be ONNX Runtime's own
        return None
    integers, scale = (None if v is None else constant_array(v) for v in node.inputs[:2])
    zero = constant_array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if integers is None or scale is None or (zero is not None and zero.astype(np.int64).any()):
        return None
    block, axis = integer(node, "block_size", 0), integer(node, "axis", 1) % integers.ndim
    if block and (integers.dtype != ml_dtypes.int4 or block % _BLOCK_MULTIPLE or integers.shape[axis] % block):
        return None
    scales = scale.astype(np.float32)
    return _Weight(integers.astype(np.float32), scales if scales.size > 1 or block else scales.reshape(()), axis, block)


class _Kernel:
    """Quantizes an activation over some of its axes, and computes with the integers.

    integers: less their zero point, as float32. step: what one of them stands for, float32.
    """

    def __init__(self, emit: Emitter, x: ir.Value, axes: list[int]) -> None:
        self.emit, self.axes = emit, axes
        low, high = (self._end(x, name) for name in ("Min", "Max"))
        span = self._op("Sub", high, low)
        empty = self._op("Equal", span, emit.scalar(0.0), dtype=ir.DataType.BOOL)
        scale = self._op("Where", empty, emit.scalar(1.0), self._op("Div", emit.scalar(_STEPS), span))
        least = self._op("Round", self._op("Mul", low, scale))  # less the zero point, which rounds to the same
        integers = self._op("Max", self._op("Round", self._op("Mul", x, scale)), least)
        self.integers = self._op("Min", integers, self._op("Add", least, emit.scalar(_STEPS)))
        self.step = self._op("Div", emit.scalar(1.0), scale)

    def product(self, node: ir.Node, weight: _Weight, turned: bool) -> None:
        """A Gemm or MatMul, and the bias behind it."""
        add = bias_add(node) if node.op_type == "MatMul" else None
        bias = (
            add.inputs[bias_index(add, node)] if add is not None else node.inputs[2] if len(node.inputs) > 2 else None
        )
        numbers = None if bias is None else constant_array(bias)
        if bias is not None and numbers is None:
            return
        integers = weight.integers.T if turned else weight.integers
        if weight.block:
            scales = weight.scale.T if turned else weight.scale
            y, scale = self._blocks(integers, scales, weight.block), np.ones((), np.float32)
        else:
            y, scale = self._op("MatMul", self.integers, self._constant(integers)), weight.scale
        self._finish(y, scale, None if numbers is None else numbers.reshape(-1), node if add is None else add)

    def convolution(self, node: ir.Node, weight: _Weight) -> None:
        """A Conv with its bias."""
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        numbers = None if bias is None else constant_array(bias)
        if bias is not None and numbers is None:
            return
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        y = self._op("Conv", self.integers, self._constant(weight.integers), **attributes)
        shape = (-1,) + (1,) * (weight.integers.ndim - 2)
        scale = weight.scale.reshape(shape) if weight.scale.ndim else weight.scale
        self._finish(y, scale, None if numbers is None else numbers.reshape(shape), node)

    def _blocks(self, integers: NDArray[np.float32], scales: NDArray[np.float32], block: int) -> ir.Value:
        """Sums of integers in blocks, each multiplied by its scales, (blocks, O), and added to those before it at once.

        The kernel keeps scales of blocks as bfloat16.
        """
        emit, total = self.emit, None
        kept = scales.astype(ml_dtypes.bfloat16).astype(np.float32)
        for index, start in enumerate(range(0, len(integers), block)):
            rows = np.arange(start, start + block)
            (part,) = emit.node(
                "Gather",
                [self.integers, emit.constant(rows, "rows")],
                "dynamic",
                dtype=ir.DataType.FLOAT,
                axis=-1,
            )
            part = self._op("MatMul", part, self._constant(integers[rows]))
            total = self._multiplied(part, kept[index], total)
        assert total is not None  # a weight has inputs
        return total

    def _finish(self, y: ir.Value, scale: NDArray[np.float32], bias: NDArray[np.generic] | None, last: ir.Node) -> None:
        """The sums times the step of the row, times the scales of the weight, to which the bias is added at once."""
        addend = None if bias is None else self.emit.constant(bias.astype(np.float32), "bias")
        y = self._multiplied(self._op("Mul", y, self.step), scale, addend)
        old = last.outputs[0]
        y.type, y.shape = old.type, old.shape
        name, is_output = old.name, old.is_graph_output()
        old.replace_all_uses_with(y, replace_graph_outputs=is_output)
        old.name, y.name = self.emit.name("float"), name

    def _multiplied(self, y: ir.Value, factor: NDArray[np.float32], addend: ir.Value | None) -> ir.Value:
        """y · factor + addend, rounded once: in float64 the product is exact, and of the sum one in 2**29 rounds otherwise."""
        if addend is None:
            return self._op("Mul", y, self._constant(factor))
        wide = [self._cast(value, ir.DataType.DOUBLE) for value in (y, self._constant(factor), addend)]
        product = self._op("Mul", *wide[:2], dtype=ir.DataType.DOUBLE)
        return self._cast(self._op("Add", product, wide[2], dtype=ir.DataType.DOUBLE), ir.DataType.FLOAT)

    def _end(self, x: ir.Value, name: str) -> ir.Value:
        """The least or greatest number over the axes, or zero where that is beyond it."""
        if self.emit.hub.opset >= _AXES_ARE_AN_INPUT:
            found = self._op(f"Reduce{name}", x, self.emit.constant(np.array(self.axes, np.int64), "axes"), keepdims=1)
        else:
            found = self._op(f"Reduce{name}", x, axes=self.axes, keepdims=1)
        return self._op(name, found, self.emit.scalar(0.0))

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        return self._op("Cast", value, dtype=to, to=to)

    def _constant(self, array: NDArray[np.float32]) -> ir.Value:
        return self.emit.constant(np.ascontiguousarray(array) if array.ndim else array, "dynamic")

    def _op(self, op: str, *inputs: ir.Value, dtype: ir.DataType = ir.DataType.FLOAT, **attributes: Any) -> ir.Value:
        return self.emit.node(op, list(inputs), "dynamic", dtype=dtype, **attributes)[0]
