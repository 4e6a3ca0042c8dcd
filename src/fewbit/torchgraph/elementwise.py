"""Sums and products of two tensors of 8-bit integers, number for number as ONNX Runtime's QLinearAdd and QLinearMul make them.

MLAS stays among the integers, in float32 with fused multiply-adds. With scales s and zero points z of the inputs a and b and
of the output y, rounded half to even:

    QLinearAdd   fma(a, s_a/s_y, fma(b, s_b/s_y, z_y − fma(s_a/s_y, z_a, s_b/s_y · z_b)))
    QLinearMul   fma((a − z_a) · (b − z_b), s_a·s_b/s_y, z_y)

The real numbers that a simulation adds lie 10⁻⁵ beside these, so that a few values in 10⁵ go to the other integer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewbit.torchgraph.fake_quantize import FakeQuantize


@dataclass(frozen=True, eq=False)
class IntegerPair:
    """The kernel of a node in evaluation mode; in training mode the node stays what it is.

    inputs: what quantizes each input, and the factor of its scale. output: what quantizes the result.
    """

    op: Literal["Add", "Mul"]
    inputs: tuple[tuple[FakeQuantize, float], tuple[FakeQuantize, float]]
    output: FakeQuantize

    def __call__(self, made: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The values of the integers, from what the node made in real numbers; gradients are the node's."""
        if self.output.training or not self.output.enabled:
            return made
        with torch.no_grad():
            scale, zero = self.output.scale(), self.output.zeros()
            scales = [(q.scale().double() * factor).float() for q, factor in self.inputs]
            zeros = [q.zeros() for q, _ in self.inputs]
            centred = [(x / s).round_() for x, s in zip((a, b), scales, strict=True)]
            if self.op == "Add":
                ratios = [s / scale for s in scales]
                start = zero - _fma(ratios[0], zeros[0], ratios[1] * zeros[1])
                whole = [c + z for c, z in zip(centred, zeros, strict=True)]
                result = _fma(whole[0], ratios[0], _fma(whole[1], ratios[1], start))
            else:
                result = _fma(centred[0] * centred[1], scales[0] * scales[1] / scale, zero)
            kernel = (result.round_().clamp_(self.output.spec.qmin, self.output.spec.qmax) - zero) * scale
        return made + (kernel - made).detach()


def _fma(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """x · y + z, rounded once: a product of two float32 is exact in float64."""
    return (x.double() * y.double() + z.double()).float()
