"""Layers made by chance: weights, and the Gram matrix of inputs that are not independent."""

from __future__ import annotations

import numpy as np


def heavy(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Weights with heavy tails, as trained ones have them."""
    return (0.05 * random.standard_t(5, shape)).astype(np.float32)


def gram_of(random: np.random.Generator, inputs: int) -> np.ndarray:
    """E[x xᵀ] of inputs behind a ReLU, mixed from half as many sources, and noise that makes it well-conditioned."""
    sources = random.standard_normal((8 * inputs, max(1, inputs // 2)))
    mixed = sources @ random.standard_normal((sources.shape[1], inputs)) / np.sqrt(sources.shape[1])
    x = np.maximum(mixed + 0.5 * random.standard_normal(mixed.shape), 0.0)
    return x.T @ x / len(x)
