"""Factors that let the channels of an activation use its integers alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STRENGTHS = (0.25, 0.5)  # stronger ones leave no headroom for a channel that was quiet on the samples
_LARGEST = 1024.0  # between the most and the least stretched channel: beyond it a channel is as good as dead


def balance_factors(
    reach: NDArray[np.float64],
    energy: NDArray[np.float64],
    weight_energy: NDArray[np.float64],
    weight_reach: NDArray[np.float64],
    *,
    levels: int,
    weight_levels: int,
    depthwise: bool,
    fixed: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Factors s and how many dB they are expected to gain at the readers' outputs.

    With strength a, s_c = (reach_c / max reach)^a. Dividing channel c by s_c and multiplying the weights that read it
    leaves the noise of the activation, Δ²/12 · Σ_c s_c² ‖W_c‖², and that of the weights, Σ_o δ_o²/12 · Σ_c E[x_c²] / s_c²
    with δ_o the step of output channel o; the strength with the least sum is taken. The strengths are those of Xiao et
    al. 2023, equation 4; the choice among them is by the model of noise, for each edge.

    Args:
        reach: largest absolute value of each channel, shape (C,).
        energy: mean square of each channel, (C,).
        weight_energy: Σ over all readers and outputs of the squared weights of each input channel, (C,).
        weight_reach: largest absolute weight of each input channel and output channel, (C, O), over all readers.
        levels, weight_levels: steps that the activation's range and half of a weight's range hold.
        depthwise: an output channel reads one input channel, so its weight step scales with s and costs nothing.
        fixed: channels that must keep factor 1 (a clipped activation saturates there), (C,).
    """
    top = reach.max()
    if not top > 0.0:
        return np.ones(reach.shape, np.float32), 0.0
    best, least = np.ones(reach.shape), np.inf
    plain = np.inf
    for strength in (0.0, *_STRENGTHS):
        factors = np.maximum(reach / top, 1.0 / _LARGEST) ** strength
        if fixed is not None:
            factors[fixed] = 1.0
        step = (reach / factors).max() / levels
        noise = step * step / 12 * float((factors**2 * weight_energy).sum())
        if not depthwise:
            steps = (weight_reach * factors[:, None]).max(0) / weight_levels
            noise += float((steps * steps).sum()) / 12 * float((energy / factors**2).sum())
        if strength == 0.0:
            plain = noise
        if noise < least:
            best, least = factors, noise
    gain = 10 * np.log10(plain / least) if least > 0 else 0.0
    return best.astype(np.float32), float(gain)


def channel_shift(
    low: NDArray[np.float64], high: NDArray[np.float64], bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[NDArray[np.float64], float]:
    """What to take off each channel so that one range holds all of them best, and how many dB the range then shrinks.

    z_c = (high_c + low_c) / 2 centres every channel (Wei et al. 2023, "Outlier Suppression+", equation 3). Where a function
    with bounds makes the values, what goes into it is shifted and its bounds stay: a channel gives up at most what lies
    between a bound and its own extreme, and nothing if it reaches one (Nagel et al. 2019, equation 15, by the extremes).

    Args:
        low, high: extremes of each channel, shape (C,). bounds: of the function that makes the values.

    Returns:
        (shift of shape (C,), 20·log10 of the old range by the new one; both ranges hold zero).
    """
    floor, ceiling = bounds
    shift = np.clip((low + high) / 2, high - ceiling, low - floor)
    shift[(low <= floor) | (high >= ceiling)] = 0.0
    before = max(high.max(), 0.0) - min(low.min(), 0.0)
    after = max((high - shift).max(), 0.0) - min((low - shift).min(), 0.0)
    gain = 20 * np.log10(before / after) if after > 0.0 else 0.0
    return shift, float(gain)
