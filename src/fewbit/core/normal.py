"""Channels that are normally distributed, and what functions with bounds make of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-30  # a channel that never changes: far beyond its bounds, or far within
_FAR = 40.0  # deviations, from which on the density is 0


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Mean and standard deviation (≥ 0) of each channel, shape (C,)."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def clipped(x: Normal, low: float, high: float) -> Normal:
    """Mean and standard deviation of clip(x, low, high); the bounds may be infinite.

    With α = (low - μ)/σ and β = (high - μ)/σ the mean is low·Φ(α) + high·(1 - Φ(β)) + μ(Φ(β) - Φ(α)) + σ(φ(α) - φ(β))
    (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", appendix C, equation 38);
    the second moment follows in the same way.
    """
    from scipy.special import ndtr  # takes longer to import than most models to load

    std = np.maximum(x.std, _LEAST)
    alpha, beta = (low - x.mean) / std, (high - x.mean) / std
    inside = ndtr(beta) - ndtr(alpha)
    first = x.mean * inside + x.std * (_density(alpha) - _density(beta))
    second = (x.mean**2 + x.std**2) * inside + x.std * (
        _edge(low + x.mean, alpha) - _edge(high + x.mean, beta)  # 2μφ(α) + σαφ(α) = (low + μ)φ(α)
    )
    for bound, share in ((low, ndtr(alpha)), (high, ndtr(-beta))):
        if np.isfinite(bound):
            first, second = first + bound * share, second + bound**2 * share
    return Normal(first, np.sqrt(np.maximum(second - first**2, 0.0)))


def _density(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """φ, the standard normal density."""
    return np.exp(-0.5 * np.minimum(np.abs(at), _FAR) ** 2) / np.sqrt(2 * np.pi)


def _edge(factor: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """factor · φ(at), 0 at infinity."""
    density = _density(at)
    return np.where(density > 0.0, factor, 0.0) * density
