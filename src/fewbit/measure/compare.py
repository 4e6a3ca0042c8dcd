"""How far quantized values are from float ones, accumulated sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class OutputComparison:
    """Running sums over pairs of arrays of one tensor. `nonfinite` counts NaN and infinity where float has a number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples = 0
        self.signal = self.noise = self.product = self.quantized = 0.0
        self.max_error = 0.0
        self.nonfinite = 0
        self.rows = self.agreeing = 0
        self.per_sample: list[float] = []

    def update(self, real: NDArray[Any], quantized: NDArray[Any]) -> None:
        """Compare one sample's arrays, of equal shapes and any numeric dtype."""
        self.samples += 1
        if real.dtype.kind not in "fiub" or not real.size:
            return
        a, b = real.astype(np.float64).reshape(-1), quantized.astype(np.float64).reshape(-1)
        finite = np.isfinite(a) & np.isfinite(b)
        if not finite.all():
            self.nonfinite += int((np.isfinite(a) & ~np.isfinite(b)).sum())
            a, b = a[finite], b[finite]
        error = a - b
        signal, noise = float(a @ a), float(error @ error)
        self.signal += signal
        self.noise += noise
        self.product += float(a @ b)
        self.quantized += float(b @ b)
        if error.size:
            self.max_error = max(self.max_error, float(np.abs(error).max()))
        self.per_sample.append(decibel(signal, noise))
        same = same_answers(real, quantized)
        if same is not None:
            self.rows += same.size
            self.agreeing += int(same.sum())

    @property
    def sqnr(self) -> float:
        """dB; infinite where nothing differs."""
        return decibel(self.signal, self.noise)

    @property
    def cosine(self) -> float:
        length = float(np.sqrt(self.signal * self.quantized))
        return self.product / length if length else 1.0

    @property
    def agreement(self) -> float | None:
        """Share of answers that are the same; None where there are none."""
        return self.agreeing / self.rows if self.rows else None

    def to_dict(self) -> dict[str, Any]:
        worst = min(self.per_sample) if self.per_sample else None
        return {
            "name": self.name,
            "sqnr_db": finite_or_none(self.sqnr),
            "worst_sample_db": finite_or_none(worst),
            "cosine": self.cosine,
            "agreement": self.agreement,
            "max_error": self.max_error,
            "nonfinite": self.nonfinite,
            "samples": self.samples,
        }


def same_answers(real: NDArray[Any], quantized: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Whether scores have their highest value in the same place, [..., scores] → [...], and whether integers are the same,
    [...] → [...]. At least one axis; None for single floats, which are no answers."""
    if real.dtype.kind in "iub":
        return np.atleast_1d(real == quantized)
    if real.dtype.kind != "f" or not real.ndim or real.shape[-1] < 2:
        return None
    return np.atleast_1d(real.argmax(-1) == quantized.argmax(-1))


def decibel(signal: float, noise: float) -> float:
    """10·log10(signal / noise); infinite without noise."""
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))


def finite_or_none(value: float | None) -> float | None:
    """JSON has no infinity."""
    return None if value is None or not np.isfinite(value) else float(value)
