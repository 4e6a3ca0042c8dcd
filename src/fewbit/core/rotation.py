"""Rotations that spread what stands out in a few channels over all of them (incoherence processing)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import InputError


def rotation(signs: NDArray[np.floating]) -> NDArray[np.float64]:
    """An orthogonal matrix R = diag(signs) · (H ⊗ C), shape (n, n), for n signs.

    H is the Hadamard matrix of the largest power of two that divides n, C the orthonormal cosine transform of the rest,
    so that no entry is much larger than 1/√n: a row of values becomes x R, in which one large value is spread over all
    channels. With random signs this is the randomized Hadamard transform of Ashkboos et al. 2024, "QuaRot: Outlier-Free
    4-Bit Inference in Rotated LLMs", section 3.1.

    Raises:
        InputError: signs that are not 1 or -1, of one axis.
    """
    from scipy.fft import dct
    from scipy.linalg import hadamard

    if signs.ndim != 1 or signs.size == 0 or not np.isin(signs, (-1.0, 1.0)).all():
        raise InputError(f"a rotation of n channels takes n signs, each 1 or -1; given: shape {signs.shape}")
    size = signs.size & -signs.size  # the lowest bit: the largest power of two that divides n
    cosine = dct(np.eye(signs.size // size), norm="ortho")
    matrix = np.kron(hadamard(size) / np.sqrt(size), cosine)
    return np.asarray(signs[:, None] * matrix, np.float64)


def random_signs(size: int, seed: int = 0) -> NDArray[np.float32]:
    """1 or -1, shape (size,)."""
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), size)
