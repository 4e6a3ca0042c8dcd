from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.weights.blocks import Blocks
from fewbit.errors import InputError

X = np.arange(1.0, 13.0).reshape(2, 6)


@pytest.mark.parametrize(
    ("block", "grid", "wanted"),
    [
        ((), (), [list(range(1, 13))]),
        ((-1, -1), (), [list(range(1, 13))]),
        ((1, -1), (2, 1), [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]),
        ((-1, 3), (1, 2), [[1, 2, 3, 7, 8, 9], [4, 5, 6, 10, 11, 12]]),
        ((1, 4), (2, 2), [[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 10], [11, 12, 0, 0]]),
    ],
)
def test_literal_blocks(block: tuple[int, ...], grid: tuple[int, ...], wanted: list[list[int]]) -> None:
    blocks = Blocks(X.shape, block)
    assert blocks.grid == grid
    assert blocks.split(X).tolist() == wanted


def test_blocks_of_another_rank_are_refused() -> None:
    with pytest.raises(InputError, match="has 1 axes, the tensor"):
        Blocks((2, 6), (3,))
