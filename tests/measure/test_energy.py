from __future__ import annotations

import pytest

from fewbit.measure.energy import Work, estimated


def test_the_figures_of_the_source() -> None:
    # A million multiplications and additions in float32: 3.7 + 0.9 pJ each.
    assert estimated(Work({"float32": 1e6}, 0, 0)) == pytest.approx(4.6e-6)
    assert estimated(Work({"int8": 1e6}, 0, 0)) == pytest.approx(0.3e-6)
    # A megabyte of weights from memory, 1.3 nJ for 8 bytes; activations go to the cache and back, 100 pJ for 8 bytes.
    assert estimated(Work({}, 1e6, 0)) == pytest.approx(162.5e-6)
    assert estimated(Work({}, 0, 1e6)) == pytest.approx(25e-6)
