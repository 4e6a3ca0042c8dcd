"""Whether each weight is rounded up or down, learned by gradients of any loss (AdaRound, Nagel et al. 2020).

Between its two integers a weight is floor + h(v), with the rectified sigmoid h of equation 23. While training goes on, h is
drawn to 0 or 1: by the regularizer of equation 24. A straight-through estimator has no such path: it is 0 or 1 all the time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fewbit.torchgraph.fake_quantize import Limits

# Equation 23: the sigmoid is stretched from γ to ζ and clipped, so that it reaches 0 and 1.
_GAMMA, _ZETA = -0.1, 1.1
_FIRST_BETA, _LAST_BETA = 20.0, 2.0  # of the regularizer, as in the authors' code
_EDGE = 0.01  # of h at the start: nearer to 0 or 1 its gradient is small, outside of them zero


class SoftRounding(nn.Module):
    """floor + h(v) of a weight, in integers.

    Args:
        units: the weight in steps, counted as its integers are; where it starts, as far as the bounds allow.
        limits: the lowest and highest integer, of all elements or of each.
    """

    floor: Tensor
    room: Tensor

    def __init__(self, units: Tensor, limits: Limits) -> None:
        super().__init__()
        with torch.no_grad():
            floor = units.floor().clamp(*limits)
            self.register_buffer("floor", floor)
            self.register_buffer("room", (floor + 1).clamp(*limits) - floor)  # 0 where there is but one integer
            part = (units - floor).clamp(_EDGE, 1.0 - _EDGE)
            self.v = nn.Parameter(-torch.log((_ZETA - _GAMMA) / (part - _GAMMA) - 1.0))

    def share(self) -> Tensor:
        """h(v), within 0..1."""
        return (torch.sigmoid(self.v) * (_ZETA - _GAMMA) + _GAMMA).clamp(0.0, 1.0)

    def forward(self) -> Tensor:
        return self.floor + self.room * self.share()

    def integers(self) -> Tensor:
        """What the weights are rounded to; without gradients."""
        with torch.no_grad():
            return self.floor + self.room * (self.v >= 0)

    def undecided(self, beta: float) -> Tensor:
        """Σ 1 − |2h − 1|^β (equation 24): how far weights are from an integer, most for β near 2."""
        return (self.room * (1.0 - (2.0 * self.share() - 1.0).abs().pow(beta))).sum()


def exponent(done: float) -> float:
    """The exponent β of the regularizer, when so much of its time has passed (0..1): a large one draws only weights that are
    near an integer."""
    return _LAST_BETA + (_FIRST_BETA - _LAST_BETA) * (1.0 + math.cos(math.pi * done)) / 2.0
