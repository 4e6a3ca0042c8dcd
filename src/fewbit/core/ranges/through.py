"""Functions that saturate: a range is better judged by what comes out of them than by what goes in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def sigmoid(x: Numbers) -> Numbers:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def silu(x: Numbers) -> Numbers:
    """x·σ(x) (Elfwing et al. 2018, "Sigmoid-weighted linear units", equation 6)."""
    return x * sigmoid(x)


def hard_sigmoid(x: Numbers) -> Numbers:
    return np.clip(x / 6 + 0.5, 0.0, 1.0)


def hard_swish(x: Numbers) -> Numbers:
    """x·clip(x + 3, 0, 6)/6 (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""
    return x * hard_sigmoid(x)


def identity(x: Numbers) -> Numbers:
    return x


FUNCTIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "identity": identity,
    "sigmoid": sigmoid,
    "silu": silu,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
}


def slope(name: str, x: Numbers) -> Numbers:
    """The derivative, by central differences (exact for the identity)."""
    if name == "identity":
        return np.ones_like(x)
    function, step = FUNCTIONS[name], 1e-4
    return (function(x + step) - function(x - step)) / (2 * step)
