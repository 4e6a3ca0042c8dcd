"""Shifts of channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.balance import channel_shift


def test_channels_are_centred() -> None:
    shift, gain = channel_shift(np.array([-1.0, 9.0, -6.0]), np.array([1.0, 11.0, 2.0]))
    assert shift.tolist() == [0.0, 10.0, -2.0]
    assert gain == pytest.approx(20 * np.log10(17 / 8))


def test_what_a_relu_always_gives_is_taken_off() -> None:
    shift, gain = channel_shift(np.array([0.0, 9.0, 1.0]), np.array([4.0, 10.0, 3.0]), (0.0, np.inf))
    assert shift.tolist() == [0.0, 9.0, 1.0]
    assert gain == pytest.approx(20 * np.log10(10 / 4))


def test_a_channel_that_a_clip_cuts_stays() -> None:
    shift, _ = channel_shift(np.array([3.0, 3.0, 0.0]), np.array([5.0, 6.0, 6.0]), (0.0, 6.0))
    assert shift.tolist() == [3.0, 0.0, 0.0]


def test_nothing_to_shift_gains_nothing() -> None:
    assert channel_shift(np.zeros(3), np.zeros(3))[1] == 0.0


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_a_clipped_layer_gives_the_same_after_the_shift(channels: int, seed: int, floor: bool, ceiling: bool) -> None:
    """f(y - z) + z = f(y) on all values seen, for f that clips."""
    random = np.random.default_rng(seed)
    y = random.standard_normal((50, channels)) * 2 + random.standard_normal(channels) * 4
    bounds = (-1.0 if floor else -np.inf, 3.0 if ceiling else np.inf)
    x = np.clip(y, *bounds)
    shift, _ = channel_shift(x.min(0), x.max(0), bounds)
    assert np.allclose(np.clip(y - shift, *bounds) + shift, x, atol=1e-12)
