"""Constants behind a DequantizeLinear: their integers and scales, in the forms that XNNPACK's kernels read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.edit import integer
from fewbit.graph.hub import constant_array

GROUP_MULTIPLE = 32
"""XNNPACK's kernels of grouped weights want a multiple of it as the number of inputs that share a scale."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A quantized constant: real = (integers - zero_point) · scale.

    integers: int32, of any shape. scale: float32, zero_point: int32, both of shape () or (n,) along `axis`, or in blocks of
        the shape of the integers with the size of `axis` divided by `block`.
    """

    integers: NDArray[np.int32]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int
    block: int

    def real(self) -> NDArray[np.float32]:
        """What it stands for, float32."""
        return ((self.integers - self._spread(self.zero_point)) * self._spread(self.scale)).astype(np.float32)

    def centred(self) -> NDArray[np.int32]:
        """The integers less their zero points."""
        return self.integers - self._spread(self.zero_point)

    def turned(self) -> Stored:
        """The transpose of a matrix."""
        scale = self.scale.T if self.block else self.scale
        zero_point = self.zero_point.T if self.block else self.zero_point
        return replace(self, integers=self.integers.T, scale=scale, zero_point=zero_point, axis=1 - self.axis)

    def scales_along(self, axis: int) -> NDArray[np.float32] | None:
        """One scale an index of this axis, or None where they lie otherwise."""
        size = self.integers.shape[axis]
        if self.scale.size == 1:
            return np.full(size, self.scale.reshape(-1)[0], np.float32)
        return None if self.block or self.axis != axis else self.scale

    def groups_of_rows(self) -> int:
        """How many inputs of a matrix (O, I) share a scale where XNNPACK has a kernel for it, else 0."""
        inputs = self.integers.shape[1]
        whole = self.block % GROUP_MULTIPLE == 0 and self.block > 0 and inputs % self.block == 0
        return self.block if whole and self.axis == 1 else 0

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.block:
            return np.repeat(values, self.block, self.axis).take(range(self.integers.shape[self.axis]), self.axis)
        if values.size == 1:
            return values.reshape(())
        return values.reshape([-1 if a == self.axis else 1 for a in range(self.integers.ndim)])


def bits_of(integers: NDArray[np.int32]) -> int:
    """The width of signed integers that hold these: 4, 8, or more."""
    for bits in (4, 8):
        if integers.size == 0 or (-(1 << (bits - 1)) <= integers.min() and integers.max() < 1 << (bits - 1)):
            return bits
    return 32


def stored_constant(node: ir.Node) -> Stored | None:
    """What a DequantizeLinear of a constant holds, or None where it reads anything computed, or no integers."""
    values = [constant_array(value) for value in node.inputs]
    if len(values) < 2 or values[0] is None or values[1] is None or (len(node.inputs) > 2 and values[2] is None):
        return None
    dtype = node.inputs[0].const_value.dtype if node.inputs[0].const_value else node.inputs[0].dtype  # type: ignore[union-attr]
    if dtype is None or dtype.is_floating_point() or values[1].dtype != np.float32:
        return None
    integers = values[0].astype(np.int32)
    scale = values[1].astype(np.float32)
    zero = np.zeros(scale.shape, np.int32) if len(values) < 3 or values[2] is None else values[2].astype(np.int32)
    axis = integer(node, "axis", 1)
    block = integer(node, "block_size", 0) if scale.ndim == integers.ndim else 0
    return Stored(integers, scale, zero, axis % max(integers.ndim, 1), block)
