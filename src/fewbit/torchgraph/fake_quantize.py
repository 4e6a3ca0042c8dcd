"""Fake quantization with learned steps and offsets, integer for integer what `fewbit.core.affine` and ONNX Runtime do.

The step is learned as in LSQ (Esser et al. 2020, "Learned Step Size Quantization", equations 1 to 3 and section 2.2), the
offset as in LSQ+ (Bhalgat et al. 2020, equations 5 to 8). torch's own fake quantization multiplies by the reciprocal of the
scale, and so rounds some values differently from a runtime that divides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbit.core.affine import MIN_SCALE, block_grid
from fewbit.errors import RecipeError
from fewbit.spec import QParams

_HALF = torch.finfo(torch.float16)


Limits = tuple[int, int] | tuple[Tensor, Tensor]
"""The lowest and highest integer, of all elements or of each."""


class _FakeQuantize(torch.autograd.Function):
    """clip(round(x / s), q_min − z, q_max − z) · s, with gradients as in LSQ, or LSQ+ for an offset β = (q_min − z) · s."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor | None, zero: Tensor, limits: Limits, factor: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, zero)
        ctx.limits, ctx.factor, ctx.has_offset = limits, factor, offset is not None
        low, high = limits[0] - zero, limits[1] - zero
        return torch.div(x, scale).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        x, scale, zero = ctx.saved_tensors
        v = x / scale
        clipped = v.clamp(ctx.limits[0] - zero, ctx.limits[1] - zero)
        inside = grad * (clipped == v)
        by_scale = by_offset = None
        if ctx.needs_input_grad[1]:
            # Σ grad · (round(v) − v) inside the range, and grad · (its bound) outside of it
            by_scale = _sum_to(grad * clipped.round_(), scale.shape) - _sum_to(inside * v, scale.shape)
        if ctx.has_offset:  # real = q · s + β − q_min · s
            by_offset = _sum_to(grad, scale.shape) - _sum_to(inside, scale.shape)
            by_scale = None if by_scale is None else by_scale + (zero - ctx.limits[0]) * by_offset
        scaled = [None if g is None else g * ctx.factor for g in (by_scale, by_offset)]
        return inside, *scaled, None, None, None


class FakeQuantize(nn.Module):
    """Rounds a tensor to the integers of a `QParams` and back, so that gradients pass.

    `step` and `offset` are learned relative to where they began: scale = scale₀ · step, and the real number that the lowest
    integer of an asymmetric spec stands for moves by scale₀ · offset. So one learning rate suits all sites. Their gradients
    are scaled by 1 / √(elements · q_max) (LSQ, section 2.2).

    Args:
        params: affine integers with any block shape that fits `shape`.
        shape: of the tensor where blocks need it (a weight); None for one block.
        elements: how many elements share a step, for its gradient; None for those of the blocks of `shape`.
        learn_offset: asymmetric specs only.
        half_scales: scales are stored as float16, and rounded so.
        bounds: lowest and highest integer of each element, in the shape of the tensor, where they are not those of the spec.
        limit: the largest scale, for a range whose ends saturate in the place of an activation function.

    Raises:
        RecipeError: a codebook or 8-bit float, which have no step to learn, or a rounding other than half to even.
    """

    scale0: Tensor
    zero_point: Tensor
    low: Tensor | None
    high: Tensor | None

    def __init__(
        self,
        params: QParams,
        shape: tuple[int, ...] | None = None,
        *,
        elements: int | None = None,
        learn_offset: bool = False,
        half_scales: bool = False,
        bounds: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        spec = params.spec
        if spec.codebook is not None or not spec.dtype.is_integer or spec.rounding != "half_even":
            raise RecipeError(f"fake quantization learns affine integers rounded half to even, not {spec}")
        if shape is None and not spec.per_tensor:
            raise RecipeError(f"block shape {spec.block_shape} needs the tensor's shape")
        self.spec, self.shape, self.half_scales, self.limit = spec, shape, half_scales, limit
        self.register_buffer("scale0", torch.from_numpy(np.array(params.scale, np.float32)))
        self.register_buffer("zero_point", torch.from_numpy(np.array(params.zero_point, np.float32)))
        for name, bound in zip(("low", "high"), bounds or (None, None), strict=True):
            self.register_buffer(name, None if bound is None else torch.from_numpy(np.array(bound, np.float32)))
        self.step = nn.Parameter(torch.ones_like(self.scale0))
        self.offset = nn.Parameter(torch.zeros_like(self.scale0)) if learn_offset and not spec.symmetric else None
        blocks = 1 if shape is None else max(1, int(np.prod(block_grid(shape, spec.block_shape))))
        count = elements if elements is not None else (1 if shape is None else int(np.prod(shape)) // blocks)
        self.factor = float((max(count, 1) * max(spec.qmax, 1)) ** -0.5)
        self.enabled = True

    def limits(self) -> Limits:
        """The lowest and highest integer."""
        return (self.spec.qmin, self.spec.qmax) if self.low is None or self.high is None else (self.low, self.high)

    def scale(self) -> Tensor:
        """The scales of the blocks as they are stored, with gradients."""
        scale = (self.scale0 * self.step).clamp_min(MIN_SCALE)
        if self.limit is not None:  # the gradient passes, or a scale that went too far would never come back
            scale = scale - (scale - self.limit).clamp_min(0).detach()
        if self.half_scales:  # rounded as stored; the gradient passes
            scale = scale + (scale.clamp(_HALF.tiny, _HALF.max).half().float() - scale).detach()
        return scale

    def zeros(self) -> Tensor:
        """The zero points of the blocks, whole numbers, without gradients."""
        with torch.no_grad():
            if self.offset is None:
                return self.zero_point
            # β = scale₀ · (q_min − zero₀ + offset) is −(z − q_min) · scale
            above = (self.zero_point - self.spec.qmin - self.offset) * self.scale0 / self.scale()
            return (above.round() + self.spec.qmin).clamp(self.spec.qmin, self.spec.qmax)

    def forward(self, x: Tensor) -> Tensor:
        """The values that x becomes; x itself while `enabled` is False. float32 in and out."""
        if not self.enabled:
            return x
        scale, zero = self.expand(self.scale()), self.expand(self.zeros())
        offset = None if self.offset is None else self.expand(self.scale0 * self.offset)
        return _FakeQuantize.apply(x, scale, offset, zero, self.limits(), self.factor)

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        with torch.no_grad():
            scale, zero = self.expand(self.scale()), self.expand(self.zeros())
            return (torch.div(x, scale).round_() + zero).clamp_(*self.limits())

    def params(self) -> QParams:
        """What was learned, for a plan."""
        spec = self.spec
        scale = self.scale().detach().cpu().numpy().astype(np.float32)
        zero = self.zeros().cpu().numpy()
        return QParams(replace(spec), scale, np.rint(zero).astype(np.int32))

    def expand(self, values: Tensor) -> Tensor:
        """Values of the blocks so that they broadcast against the tensor."""
        if values.ndim == 0 or self.shape is None:
            return values
        for axis, (size, block) in enumerate(zip(self.shape, self.spec.block_shape, strict=True)):
            if block not in (-1, 1) and values.shape[axis] > 1:
                values = values.repeat_interleave(block, axis).narrow(axis, 0, size)
        return values


def _sum_to(x: Tensor, shape: torch.Size) -> Tensor:
    """Summed over what broadcasting added."""
    return x.sum() if not shape else x.sum_to_size(shape)
