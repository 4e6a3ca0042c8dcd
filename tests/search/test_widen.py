"""Which layers to keep wider."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.search.widen import widen


def test_the_most_noise_for_a_byte_comes_first_until_six_decibels_are_gained() -> None:
    # 9 of 20 parts for 100 bytes, then 8 for 100: 3 of 20 are left, 8.2 dB less. The third, 2 for 1 byte, is the cheapest.
    found = widen(
        "int4",
        "int8",
        ["a", "b", "c", "d"],
        [9e-3, 8e-3, 2e-3, 1e-3],
        [0.0] * 4,
        [100, 100, 1, 1],
        [0.5, 0.3, 0.1, 0.1],
    )
    assert found is not None
    assert found.layers == ("c", "a", "b")
    assert found.before == pytest.approx(16.9897, abs=1e-3) and found.after == pytest.approx(30.0, abs=1e-3)
    assert found.bytes == 201 and found.work == pytest.approx(0.9)


def test_a_layer_that_brings_little_is_left_out_however_cheap() -> None:
    found = widen("int4", None, ["loud", "quiet"], [0.96, 0.04], [0.0, 0.0], [1000, 1], [0.0, 0.0])
    assert found is not None and found.layers == ("loud",)


def test_the_wider_format_must_be_better() -> None:
    assert widen("int4", "int8", ["a", "b"], [0.5, 0.5], [0.5, 0.6], [1, 1], [0.5, 0.5]) is None


def test_no_advice_for_many_equal_layers() -> None:
    """Five of 100 equal ones would gain 0.2 dB, and each is below a twentieth of the noise."""
    assert widen("int4", None, [*map(str, range(100))], [0.01] * 100, [0.0] * 100, [1] * 100, [0.01] * 100) is None


def test_no_layers() -> None:
    assert widen("int4", None, [], [], [], [], []) is None


@given(st.lists(st.tuples(st.floats(1e-9, 1.0), st.floats(0.0, 1.0), st.integers(-9, 9)), min_size=1, max_size=30))
def test_advice_gains_a_decibel_with_five_layers_at_most(layers: list[tuple[float, float, int]]) -> None:
    names = [f"layer{i}" for i in range(len(layers))]
    found = widen("narrow", None, names, *map(list, zip(*layers, strict=True)), [0.0] * len(layers))
    if found is not None:
        assert found.after - found.before >= 1.0 and 1 <= len(found.layers) <= 5
        assert len(set(found.layers)) == len(found.layers)
