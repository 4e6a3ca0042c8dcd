"""What stands in front of the readers of an edge, a weight or a bias of an integer kernel while quantization is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbit.torchgraph.fake_quantize import FakeQuantize, Limits
from fewbit.torchgraph.soft_rounding import SoftRounding

_INT32 = 2.0**31 - 1


class Scaled(nn.Module):
    """Fake quantization of an activation in balanced units: multiplied by factors before, divided by them after.

    sums: of a tensor that an integer kernel makes; in evaluation mode it is rounded as that kernel does, number for number.
    drop: the share of elements that pass as they are, drawn anew each time (QDrop, Wei et al. 2022, equation 9).
    """

    factors: Tensor | None

    def __init__(self, quantize: FakeQuantize, factors: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.quantize = quantize
        self.sums: Sums | None = None
        self.drop = 0.0
        self.register_buffer("factors", None if factors is None else torch.from_numpy(np.array(factors, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        balanced = x if self.factors is None else x * self.factors
        quantized = self.quantize(balanced)
        if self.sums is not None and not self.training and self.quantize.enabled:
            quantized = quantized + (self.sums.rounded(balanced, self.quantize) - quantized).detach()
        if self.drop > 0.0:
            quantized = torch.where(torch.rand_like(balanced) < self.drop, balanced, quantized)
        return quantized if self.factors is None else quantized / self.factors

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        return self.quantize.integers(x if self.factors is None else x * self.factors)

    def real(self, integers: Tensor) -> Tensor:
        """The values that integers stand for, float32, without gradients."""
        with torch.no_grad():
            scale, zero = self.quantize.expand(self.quantize.scale()), self.quantize.expand(self.quantize.zeros())
            real = (integers.to(torch.float32) - zero) * scale
            return real if self.factors is None else real / self.factors


class ScaledWeight(nn.Module):
    """Fake quantization of a weight in balanced units, whose integers do not depend on its step.

    A latent weight is held at the step that the plan had, and what is learned of the step multiplies its integer. So the
    gradient of the step is that of what the runtime computes. (LSQ's supposes that integers move when the step does; latent
    weights that start near theirs do not.)

    soft: learns whether weights are rounded up or down, in the place of the latent weights.
    """

    factors: Tensor | None

    def __init__(self, quantize: FakeQuantize, factors: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.quantize = quantize
        self.soft: SoftRounding | None = None
        self.register_buffer("factors", None if factors is None else torch.from_numpy(np.array(factors, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        quantize = self.quantize
        if not quantize.enabled:
            return x * quantize.expand(quantize.step.detach())
        scale = quantize.scale()
        if scale.requires_grad:
            scale.register_hook(lambda gradient: gradient * quantize.factor)
        whole = _Round.apply(self.units(x), quantize.limits()) if self.soft is None else self.soft()
        real = (whole - quantize.expand(quantize.zeros())) * quantize.expand(scale)
        return real if self.factors is None else real / self.factors

    def units(self, x: Tensor) -> Tensor:
        """Latent weights in steps of the plan, counted as the integers are."""
        x = x if self.factors is None else x * self.factors
        return x / self.quantize.expand(self.quantize.scale0) + self.quantize.expand(self.quantize.zeros())

    def latent(self, units: Tensor) -> Tensor:
        """The inverse of `units`."""
        x = (units - self.quantize.expand(self.quantize.zeros())) * self.quantize.expand(self.quantize.scale0)
        return x if self.factors is None else x / self.factors

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        with torch.no_grad():
            if self.soft is not None:
                return self.soft.integers()
            return self.units(x).round_().clamp_(*self.quantize.limits())


class _Round(torch.autograd.Function):
    """clip(round(v), low, high). The gradient passes, except where it would take a clipped value still further out: one that
    stopped at the bounds would leave what lies outside where it is for good."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, limits: Limits) -> Tensor:
        ctx.save_for_backward(v)
        ctx.limits = limits
        return v.round().clamp_(*limits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (v,) = gradients, ctx.saved_tensors
        low, high = ctx.limits
        out = ((v < low) & (grad > 0)) | ((v > high) & (grad < 0))
        return grad.masked_fill(out, 0.0), None


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of products of integers in a kernel of ONNX Runtime (QLinearConv, QGemm): their step is that of the input times
    that of the weights, one for each output channel.

    edge: quantizes the input, whose scale is `factor` times that. weight: quantizes the weight. axis: of the output channels.
    """

    edge: FakeQuantize
    factor: float
    weight: FakeQuantize
    axis: int

    def step(self) -> Tensor:
        return (self.edge.scale().double() * self.factor).float() * self.weight.scale().reshape(-1)

    def rounded(self, x: Tensor, target: FakeQuantize) -> Tensor:
        """The values of sums, given as real numbers, as the kernel rounds them for `target`, without gradients.

        MLAS multiplies a sum, as float32, by step / scale of the output, where `FakeQuantize` divides a real number: that
        sends one value in 10⁵ to the next integer. The sums are found again by rounding, which float32 allows up to 2²².
        """
        with torch.no_grad():
            step, scale, zero = self.step(), target.scale(), target.zeros()
            shape = [-1 if axis == self.axis % x.dim() else 1 for axis in range(x.dim())]
            sums, factor = (x / step.reshape(shape)).round_(), (step / scale).reshape(shape)
            return sums.mul_(factor).round_().clamp_(target.spec.qmin - zero, target.spec.qmax - zero).mul_(scale)


class RoundedBias(nn.Module):
    """A bias as the accumulator of an integer kernel holds it: int32, at the scale of input times weight; gradients pass."""

    out: Tensor | None

    def __init__(self, sums: Sums, out: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.sums = sums
        self.register_buffer("out", None if out is None else torch.from_numpy(np.array(out, np.float32)))

    def forward(self, bias: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self.sums.step().double()
            real = bias.double() if self.out is None else bias.double() / self.out
            rounded = (real / scale).round_().clamp_(-_INT32, _INT32) * scale
            error = (rounded if self.out is None else rounded * self.out).to(bias.dtype) - bias
        return bias + error
