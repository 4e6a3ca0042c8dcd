"""Meters by what Linux writes into its files: folders with the same files, whose numbers the runs change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fewbit.measure.meters import Counter, PowerMeter, find_meter


def device(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def test_a_counter_is_read_before_and_after(tmp_path: Path) -> None:
    folder = device(tmp_path / "powercap" / "intel-rapl:0", energy_uj=1000, max_energy_range_uj=1_000_000)
    assert find_meter(tmp_path) == Counter(folder)
    meter, counter = Counter(folder, seconds=0.0), folder / "energy_uj"

    def run() -> None:
        counter.write_text(str(int(counter.read_text()) + 500))

    assert meter.joules(run) == pytest.approx(500e-6)
    counter.write_text("999800")

    def wrap() -> None:
        counter.write_text("300")  # 200 up to the end, and 300 from zero

    assert meter.joules(wrap) == pytest.approx(500e-6)


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({"name": "ina226", "power1_input": 2_500_000}, 2.5),  # microwatts
        ({"name": "ina3221", "curr1_input": 300, "in1_input": 5000, "curr2_input": 100, "in2_input": 3300}, 1.83),
    ],
)
def test_a_sensor_on_the_board(tmp_path: Path, files: dict[str, object], watts: float) -> None:
    device(tmp_path / "hwmon" / "hwmon0", name="coretemp", temp1_input=40000)
    device(tmp_path / "hwmon" / "hwmon1", **files)
    meter = find_meter(tmp_path)
    assert isinstance(meter, PowerMeter) and meter.source == f"the sensor {files['name']} on the board"
    assert meter.watts() == pytest.approx(watts)


@pytest.mark.parametrize(
    "files", [{"power_now": 4_000_000}, {"current_now": -500_000, "voltage_now": 8_000_000}], ids=["power", "current"]
)
def test_a_battery_that_is_not_charged(tmp_path: Path, files: dict[str, object]) -> None:
    device(tmp_path / "power_supply" / "AC", type="Mains")
    folder = device(tmp_path / "power_supply" / "BAT0", type="Battery", status="Charging", **files)
    assert find_meter(tmp_path) is None
    (folder / "status").write_text("Discharging\n")
    meter = find_meter(tmp_path)
    assert isinstance(meter, PowerMeter) and meter.source == "the battery BAT0" and meter.watts() == pytest.approx(4.0)


def test_power_over_the_time_of_the_runs() -> None:
    powers = iter([2.0] * 1000)
    meter = PowerMeter(lambda: next(powers), 0.2, "")
    assert meter.joules(lambda: time.sleep(0.05)) == pytest.approx(0.1, rel=0.3)  # 2 W for a twentieth of a second
    assert next(powers) == 2.0  # a handful of readings were taken


def test_no_meter(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None
    device(tmp_path / "powercap" / "intel-rapl:0", energy_uj="")  # there, but it cannot be read
    assert find_meter(tmp_path) is None
