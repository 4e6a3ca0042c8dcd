"""Weights of 8 bits for kernels that add two products in 16 bits.

x86 processors without VNNI multiply unsigned activations by signed weights with `vpmaddubsw`, which adds the products
of two neighbouring inputs in 16 bits, with saturation. The sums stay exact if of the weights that inputs 2j and 2j + 1
have in an output channel the positive ones add up to at most 128, and the negative ones to no less than -128, as
255 · 128 = 32640 < 2¹⁵. Weights of 7 bits always do, and most weights of 8 bits do as well: a scale a quarter larger
than that of the maximum leaves few that do not, where 7 bits would double it.

Inputs count in the order in which the kernel sums them: of a matrix as they are, of a convolution kernel position by
kernel position with input channels running fastest, within each group (`rows.weight_rows`). The last of an odd number
is alone. The zero point of the weights is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import MIN_SCALE
from fewbit.errors import InputError

PAIR_LIMIT = 128
"""The largest sum of a pair's weights of one sign, for activations up to 255: ⌊(2¹⁵ - 1) / 255⌋."""

# Candidates of a scale: so many over the whole range, and beside the best of them, at these parts of the distance between two.
# Twice as many of each lower the error by 0.2 dB (EfficientNet-Lite0), in twice the time.
_SCALES = 8
_BESIDE = np.array([-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0], np.float32)
_CHUNK = 1 << 16  # weights worked on at a time, so that they stay in the cache


def saturating_pairs(integers: NDArray[Any], limit: int = PAIR_LIMIT) -> int:
    """How many pairs of integers (..., K) could saturate."""
    pairs = _pairs(integers.astype(np.int64))
    return int(((np.maximum(pairs, 0).sum(0) > limit) | (np.minimum(pairs, 0).sum(0) < -limit)).sum())


def pair_bounds(
    exact: NDArray[np.floating], qmin: int, qmax: int, limit: int = PAIR_LIMIT
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest integer of each weight, so that no pair can saturate whatever is chosen within them.

    What a pair's exact values leave of the limit, or exceed it by, is shared equally; for an excess this gives the least
    squared error. Bounds that depend on the weights alone serve every rounding algorithm, in any order of columns, and
    GPTQ loses nothing against bounds that follow the integers already chosen (to 0.01 dB).

    Args:
        exact: w / scale, shape (..., K).
        qmin, qmax: ≤ 0 and ≥ 0.

    Returns:
        two arrays in the shape of exact, integral, qmin ≤ low ≤ 0 ≤ high ≤ qmax.

    Raises:
        InputError: the limit is not positive.
    """
    if limit < 1:
        raise InputError(f"a limit for the sums of pairs must be at least 1, not {limit}; {PAIR_LIMIT} suits uint8")
    pairs = _pairs(np.asarray(exact, np.float32))
    low, high = (_unpaired(_shares(sign * pairs, most, limit), exact.shape) for sign, most in ((-1, -qmin), (1, qmax)))
    return -low, high


def round_pairs(exact: NDArray[np.floating], qmin: int, qmax: int, limit: int = PAIR_LIMIT) -> NDArray[np.float32]:
    """The integers nearest to w / scale of which no pair saturates, shape (..., K), float32. Integers are taken too:
    those that could saturate are moved as little as possible."""
    return _unpaired(_round(_pairs(np.asarray(exact, np.float32)), qmin, qmax, limit), exact.shape)


def pair_scale(w: NDArray[np.floating], qmin: int, qmax: int, limit: int = PAIR_LIMIT) -> NDArray[np.float32]:
    """The scale of every output channel that leaves the least squared error of `round_pairs`.

    Between the scale of the largest weight, which makes many pairs exceed the limit, and that at which none can.

    Args:
        w: (..., O, K), finite.

    Returns:
        (..., O, 1), > 0; 1 for a channel of zeros.
    """
    rows = np.asarray(w, np.float32).reshape(-1, w.shape[-1])
    most = min(qmax, -qmin)
    last = max(most / (limit // 2), 1.0) if limit > 1 else float(most)
    grid = np.linspace(1.0, last, _SCALES, dtype=np.float32)
    near = (grid[1] - grid[0]) * _BESIDE
    scales = np.empty((len(rows), 1), np.float32)
    step = max(1, _CHUNK // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        top = np.abs(part).max(-1, keepdims=True, initial=0.0) / np.float32(most)
        top[top < MIN_SCALE] = 1.0
        pairs = _pairs(part)
        exact, error = np.empty_like(pairs), np.empty_like(pairs)
        best, least = np.ones_like(top), np.full(top.shape, np.inf, np.float32)
        for candidates in (grid, near):
            middle = best if candidates is near else np.zeros_like(best)
            for ratio in candidates:
                scale = top * (middle + ratio)
                np.divide(pairs, scale, out=exact)
                _round(exact, qmin, qmax, limit, out=error)
                error *= scale
                error -= pairs
                loss = (np.einsum("op,op->o", error[0], error[0]) + np.einsum("op,op->o", error[1], error[1]))[:, None]
                best, least = np.where(loss < least, middle + ratio, best), np.minimum(loss, least)
        scales[start : start + step] = top * best
    return scales.reshape(*w.shape[:-1], 1)


def _round(
    exact: NDArray[np.float32], qmin: int, qmax: int, limit: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The nearest integers (2, ..., pairs) of which no pair saturates; contiguous, as what `_pairs` gives is."""
    q = np.rint(exact, out=out)
    np.maximum(q, max(qmin, -limit), out=q)
    np.minimum(q, min(qmax, limit), out=q)
    flat, wanted = q.reshape(2, -1), exact.reshape(2, -1)  # views
    total = flat[0] + flat[1]
    bad = np.flatnonzero(np.abs(total) > limit)  # there both have one sign
    sign = np.sign(total[bad])
    most = np.where(sign > 0, qmax, -qmin).astype(np.float32)
    flat[:, bad] = sign * _shares(sign * wanted[:, bad], most, limit)
    return q


def _shares(wanted: NDArray[np.float32], most: NDArray[np.float32] | int, limit: int) -> NDArray[np.float32]:
    """The largest sizes (2, ...) of one sign of a pair that wants these; together at most the limit."""
    size = np.maximum(wanted, 0.0)
    room = limit - size[0] - size[1]
    most = np.minimum(most, limit)
    first = np.clip(np.rint(size[0] + room / 2), np.minimum(limit - most, most), most)
    return np.stack([first, np.minimum(limit - first, most)])


def _pairs(x: NDArray[Any]) -> NDArray[Any]:
    """(..., K) as (2, ..., pairs), first and second of each pair, the last of an odd number with a zero."""
    if x.shape[-1] % 2:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)])
    # Contiguous, which is twice as fast to work on as side by side, whatever the order of x in memory.
    return np.ascontiguousarray(np.stack([x[..., 0::2], x[..., 1::2]]))


def _unpaired(pairs: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """What `_pairs` made of an array of a shape, as it was."""
    return np.stack([pairs[0], pairs[1]], -1).reshape(*shape[:-1], -1)[..., : shape[-1]]
