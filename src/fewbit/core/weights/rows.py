"""A layer as matrices: its weight as rows of inputs, and the input vectors that meet them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The geometry of a convolution: one entry a spatial axis, pads as (before, after)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads


def weight_rows(w: NDArray[Any], out_axis: int, in_axis: int, groups: int = 1) -> NDArray[Any]:
    """A weight as (groups, outputs / groups, K): K runs over kernel positions, then input channels, the order in which
    integer kernels sum (NHWC). The axes of a convolution's weight are (O, I, *kernel), of a matrix (O, I) or (I, O)."""
    w = np.moveaxis(w, (out_axis, in_axis), (0, -1))
    return w.reshape(groups, w.shape[0] // groups, -1)


def rows_to_weight(rows: NDArray[Any], shape: tuple[int, ...], out_axis: int, in_axis: int) -> NDArray[Any]:
    """The inverse of `weight_rows`, for a weight of this shape."""
    moved = rows.reshape(np.moveaxis(np.empty(shape, np.bool_), (out_axis, in_axis), (0, -1)).shape)
    return np.ascontiguousarray(np.moveaxis(moved, (0, -1), (out_axis, in_axis)))


def dense_rows(x: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most `most` of the vectors along the last axis of x (..., K), as (1, rows, K)."""
    flat = x.reshape(-1, x.shape[-1])
    if len(flat) > most:
        flat = flat[rng.choice(len(flat), most, replace=False)]
    return flat[None]


def patch_rows(
    x: NDArray[np.float32], window: Window, groups: int, most: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The input vectors of a convolution at about `most` output positions, taken at random: the same of each sample, and
    at least one.

    Args:
        x: (N, C, *sizes).

    Returns:
        (groups, N · positions, C / groups · kernel), in the order of `weight_rows`; padding is zero.
    """
    count = len(window.kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *window.pads)) if any(sum(p) for p in window.pads) else x
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, window.strides, strict=True)]
    total = int(np.prod(sizes))
    chosen = np.arange(total) if total * len(x) <= most else rng.choice(total, max(most // len(x), 1), replace=False)
    places = np.unravel_index(chosen, sizes)
    index: list[Any] = [slice(None), slice(None)]
    for axis, place in enumerate(places):
        taps = np.arange(window.kernel[axis]) * window.dilations[axis]
        grid = (place * window.strides[axis])[:, None] + taps
        index.append(grid.reshape([len(chosen), *(-1 if a == axis else 1 for a in range(count))]))
    patches = padded[tuple(index)]  # (N, C, positions, *kernel)
    n, channels = patches.shape[:2]
    patches = patches.reshape(n, groups, channels // groups, len(chosen), -1).transpose(1, 0, 3, 4, 2)
    return patches.reshape(groups, n * len(chosen), -1)
