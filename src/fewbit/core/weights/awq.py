"""Activation-aware scaling: input channels that carry large values get finer weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import fake_quantize
from fewbit.core.weights.descent import checked_gram, output_error
from fewbit.core.weights.scales import WeightRange, weight_params
from fewbit.errors import InputError
from fewbit.spec import QSpec

_LEAST = 1e-4  # of the largest mean: a channel that is never on must not stretch all others without end


def awq_factors(
    w: NDArray[np.float32],
    gram: NDArray[np.floating],
    spec: QSpec,
    mean_abs: NDArray[np.floating],
    *,
    grid: int = 20,
    method: WeightRange = "absmax",
) -> NDArray[np.float32]:
    """As `shared_awq_factors`, for one layer."""
    return shared_awq_factors([(w, spec)], gram, mean_abs, grid=grid, method=method)


def shared_awq_factors(
    layers: Sequence[tuple[NDArray[np.float32], QSpec]],
    gram: NDArray[np.floating],
    mean_abs: NDArray[np.floating],
    *,
    grid: int = 20,
    method: WeightRange = "absmax",
) -> NDArray[np.float32]:
    """Factors s to multiply the input columns of all weights w with that read one input, and to divide that input by.

    s = mean_abs^α / √(max · min), with α of 0, 1/grid, ..., 1 chosen by the expected squared output error of rounding
    w · diag(s) and dividing by s again, summed over the layers. α = 0 is no scaling, and wins ties, so the error is never
    above that of plain rounding. (Lin et al. 2024, "AWQ: Activation-aware Weight Quantization for LLM Compression and
    Acceleration", equations 4 and 5; the normalization is that of their code.)

    Args:
        layers: of each one w, float32, shape (O, I), and how w · diag(s) will be quantized.
        gram: E[x xᵀ] over the input vectors, shape (I, I), any float dtype.
        mean_abs: E[|x|] of each input, shape (I,), ≥ 0; raised to 1e-4 of the largest.
        grid: steps of α, at least 1.
        method: how the scales of w · diag(s) are found, as in `weight_params`.

    Returns:
        shape (I,), float32, > 0, whose largest and smallest multiply to 1.

    Raises:
        InputError: shapes that do not fit, values that are not finite, a negative mean.
    """
    for w, _ in layers:
        gram = checked_gram(w, gram)
        if mean_abs.shape != w.shape[1:]:
            raise InputError(f"mean_abs of a weight {w.shape} must have the shape {w.shape[1:]}, not {mean_abs.shape}")
    if not (np.isfinite(mean_abs).all() and (mean_abs >= 0.0).all()):
        raise InputError("mean_abs must hold finite means ≥ 0 of |x|; leave out the samples that give NaN or infinity")
    if grid < 1:
        raise InputError(f"the grid of α needs at least 1 step, not {grid}")
    top = float(mean_abs.max(initial=0.0))
    best, least = np.ones(mean_abs.shape, np.float32), np.inf
    means = np.maximum(mean_abs.astype(np.float64) / (top or 1.0), _LEAST)
    for alpha in np.linspace(0.0, 1.0, grid + 1):
        powers = means**alpha
        factors = (powers / np.sqrt(powers.max() * powers.min())).astype(np.float32)
        loss = scaled_error(layers, gram, factors, method=method)
        if loss < least:
            best, least = factors, loss
    return best


def scaled_error(
    layers: Sequence[tuple[NDArray[np.float32], QSpec]],
    gram: NDArray[np.floating],
    factors: NDArray[np.float32],
    *,
    method: WeightRange = "absmax",
) -> float:
    """The expected squared output error, summed over the layers, of weights that are rounded with their columns multiplied.
    Arguments as those of `shared_awq_factors`."""
    total = 0.0
    for w, spec in layers:
        scaled = w * factors
        error = fake_quantize(scaled, weight_params(scaled, spec, method=method)) / factors - w
        total += float(output_error(error, gram).sum())
    return total
