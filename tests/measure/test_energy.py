from __future__ import annotations

from pathlib import Path

import pytest

from fewbit.measure.energy import Meter, Work, estimated


def test_the_figures_of_the_source() -> None:
    # A million multiplications and additions in float32: 3.7 + 0.9 pJ each.
    assert estimated(Work({"float32": 1e6}, 0, 0)) == pytest.approx(4.6e-6)
    assert estimated(Work({"int8": 1e6}, 0, 0)) == pytest.approx(0.3e-6)
    # A megabyte of weights from memory, 1.3 nJ for 8 bytes; activations go to the cache and back, 100 pJ for 8 bytes.
    assert estimated(Work({}, 1e6, 0)) == pytest.approx(162.5e-6)
    assert estimated(Work({}, 0, 1e6)) == pytest.approx(25e-6)


def test_a_meter_is_read_before_and_after(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    assert not meter.available()
    counter = tmp_path / "energy_uj"
    counter.write_text("1000\n")
    (tmp_path / "max_energy_range_uj").write_text("1000000\n")
    assert meter.available()

    def run() -> None:
        counter.write_text(str(int(counter.read_text()) + 500))

    assert meter.joules(run, seconds=0.0) == pytest.approx(500e-6)
    counter.write_text("999800")

    def wrap() -> None:
        counter.write_text("300")  # 200 up to the end, and 300 from zero

    assert meter.joules(wrap, seconds=0.0) == pytest.approx(500e-6)
