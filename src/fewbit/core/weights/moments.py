"""First and second moments of the inputs of a layer, float and quantized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Σ over input vectors, gathered a few samples at a time; constant in size.

    For a layer of G groups with K inputs each: x̂ are the inputs as the quantized model has them, x as the float model has
    them, at the same places.

    Attributes: count; mean_float and mean (G, K), E[x] and E[x̂]; gram (G, K, K), E[x̂ x̂ᵀ]; cross (G, K, K), E[x x̂ᵀ].
    """

    def __init__(self, groups: int, inputs: int) -> None:
        self.count = 0
        self._mean_float: NDArray[np.float64] = np.zeros((groups, inputs))
        self._mean: NDArray[np.float64] = np.zeros((groups, inputs))
        self._gram: NDArray[np.float64] = np.zeros((groups, inputs, inputs))
        self._cross: NDArray[np.float64] | None = None  # the Gram matrix itself, as long as nothing is quantized

    def add(self, real: NDArray[np.float32], quantized: NDArray[np.float32]) -> None:
        """Rows (G, n, K); `quantized is real` where the inputs are not quantized, which saves half."""
        if quantized is not real and self._cross is None:
            self._cross = self._gram.copy()
        self.count += real.shape[1]
        self._mean_float += real.sum(1, dtype=np.float64)
        self._mean += quantized.sum(1, dtype=np.float64)
        gram = quantized.transpose(0, 2, 1) @ quantized
        self._gram += gram
        if self._cross is not None:
            self._cross += gram if quantized is real else real.transpose(0, 2, 1) @ quantized

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples."""
        total = Moments(*self._mean.shape)
        total.count = self.count + other.count
        total._mean_float = self._mean_float + other._mean_float
        total._mean, total._gram = self._mean + other._mean, self._gram + other._gram
        if self._cross is not None or other._cross is not None:
            own, theirs = (m._gram if m._cross is None else m._cross for m in (self, other))
            total._cross = own + theirs
        return total

    @property
    def mean_float(self) -> NDArray[np.float64]:
        return self._mean_float / max(self.count, 1)

    @property
    def mean(self) -> NDArray[np.float64]:
        return self._mean / max(self.count, 1)

    def second(self, *, centred: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(gram, cross); around the means where a bias takes the mean error."""
        gram = self._gram / max(self.count, 1)
        if centred and self.count < 2:
            return np.zeros_like(gram), np.zeros_like(gram)  # around itself one vector is nothing, and not its rounding
        if centred:
            gram -= self.mean[:, :, None] * self.mean[:, None, :]
            index = np.arange(gram.shape[-1])
            gram[:, index, index] = np.maximum(gram[:, index, index], 0.0)  # of a constant input, only rounding is left
        if self._cross is None:
            return gram, gram
        cross = self._cross / max(self.count, 1)
        if centred:
            cross -= self.mean_float[:, :, None] * self.mean[:, None, :]
        return gram, cross


def shrunk(gram: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """A Gram matrix (G, K, K) estimated from `count` vectors, drawn towards its diagonal as far as the estimates of the
    products of different inputs are noise.

    The share is that of Schäfer & Strimmer 2005, "A Shrinkage Approach to Large-Scale Covariance Matrix Estimation",
    equation 8 with target D, where the variance of a product over samples is that of normal values,
    (g_ii g_jj + g_ij²) / count. With fewer vectors than inputs the matrix is singular, and an algorithm that believed it
    would hide errors where no sample happened to look.
    """
    diagonal = np.einsum("gii->gi", gram)
    square, own = np.einsum("gij,gij->g", gram, gram), (diagonal**2).sum(1)
    noise = (diagonal.sum(1) ** 2 - own + square - own) / max(count, 1)
    share = np.minimum(np.divide(noise, square - own, out=np.ones_like(noise), where=square > own), 1.0)
    result = gram * (1.0 - share)[:, None, None]
    index = np.arange(gram.shape[-1])
    result[:, index, index] = diagonal
    return result
