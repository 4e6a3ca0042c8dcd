"""A tensor cut into its blocks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import block_grid


class Blocks:
    """A tensor cut into blocks, one a row. Short last blocks are filled with zeros, which every format holds.

    Attributes: grid, how many blocks there are along each axis, () for one that spans everything; block, the shape of one.

    Raises:
        InputError: tensor and block differ in rank.
    """

    def __init__(self, shape: tuple[int, ...], block_shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.grid = block_grid(shape, block_shape)
        self.block = shape
        if self.grid:
            self.block = tuple(n if b == -1 else b for n, b in zip(shape, block_shape, strict=True))

    def split(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        """(blocks, elements of a block), both in row-major order."""
        if not self.grid:
            return x.reshape(1, -1)
        pads = [(0, g * b - n) for g, b, n in zip(self.grid, self.block, self.shape, strict=True)]
        if any(after for _, after in pads):
            x = np.pad(x, pads)
        rank = len(self.grid)
        parts = x.reshape([n for pair in zip(self.grid, self.block, strict=True) for n in pair])
        order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)]
        return np.ascontiguousarray(parts.transpose(order)).reshape(math.prod(self.grid), -1)
