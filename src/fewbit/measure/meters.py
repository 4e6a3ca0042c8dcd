"""Meters of energy that Linux offers: the processor's own counter, a sensor on the board, a battery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_CLASSES = Path("/sys/class")
_MICRO = 1e-6
_MILLI = 1e-3
_BETWEEN = 0.02  # seconds between two readings of power


class Meter(Protocol):
    """What tells the energy of a run."""

    @property
    def source(self) -> str:
        """For people."""

    def joules(self, run: Callable[[], Any]) -> float:
        """Of one run, the mean over as many as fit in some seconds; what else the machine does is counted too."""


@dataclass(frozen=True, slots=True)
class Counter:
    """The processor's own counter (RAPL, by Linux's powercap), which counts everything that its package does.

    folder: holds `energy_uj`, which goes on from 0 at `max_energy_range_uj`. seconds: how long to count.
    """

    folder: Path
    seconds: float = 1.0
    source: str = "the processor's own meter (RAPL)"

    def joules(self, run: Callable[[], Any]) -> float:
        before = _number(self.folder / "energy_uj")
        count, _ = _runs(run, self.seconds)
        spent = _number(self.folder / "energy_uj") - before
        if spent < 0:
            spent += _number(self.folder / "max_energy_range_uj")
        return spent * _MICRO / count


@dataclass(frozen=True, slots=True)
class PowerMeter:
    """A meter of power, which is read again and again while the runs go on.

    watts: the power now. seconds: how long to run.
    """

    watts: Callable[[], float]
    seconds: float
    source: str

    def joules(self, run: Callable[[], Any]) -> float:
        seen, over = [self.watts()], threading.Event()

        def watch() -> None:
            while not over.wait(_BETWEEN):
                seen.append(self.watts())

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            count, took = _runs(run, self.seconds)
        finally:
            over.set()
            watching.join()
        return sum(seen) / len(seen) * took / count


def find_meter(classes: Path = _CLASSES) -> Meter | None:
    """The first that may be read of: RAPL; an INA sensor (hwmon, by the kernel's drivers ina2xx, ina238, ina3221); a battery
    that is not being charged. None: there is none.

    classes: where Linux shows its devices.
    """
    found = [_rapl(classes), *map(_ina, sorted(classes.glob("hwmon/hwmon*")))]
    found += map(_battery, sorted(classes.glob("power_supply/*")))
    return next((meter for meter in found if meter is not None), None)


def _rapl(classes: Path) -> Meter | None:
    folder = classes / "powercap" / "intel-rapl:0"
    return Counter(folder) if _readable(folder / "energy_uj") else None


def _ina(folder: Path) -> Meter | None:
    """All channels of a sensor together."""
    name = _text(folder / "name")
    if not name.startswith("ina"):
        return None
    powers = [path for path in sorted(folder.glob("power*_input")) if _readable(path)]
    if powers:
        return PowerMeter(lambda: sum(map(_number, powers)) * _MICRO, 2.0, f"the sensor {name} on the board")
    currents = [path for path in sorted(folder.glob("curr*_input")) if _readable(path)]
    pairs = [(path, folder / path.name.replace("curr", "in")) for path in currents]
    pairs = [(current, voltage) for current, voltage in pairs if _readable(voltage)]
    if not pairs:
        return None
    return PowerMeter(
        lambda: sum(_number(current) * _MILLI * _number(voltage) * _MILLI for current, voltage in pairs),
        2.0,
        f"the sensor {name} on the board",
    )


def _battery(folder: Path) -> Meter | None:
    """Batteries tell their power about once a second, so that runs take longer."""
    if _text(folder / "type") != "Battery" or _text(folder / "status") != "Discharging":
        return None
    power, current, voltage = (folder / name for name in ("power_now", "current_now", "voltage_now"))
    source = f"the battery {folder.name}"
    if _readable(power):
        return PowerMeter(lambda: abs(_number(power)) * _MICRO, 20.0, source)
    if _readable(current) and _readable(voltage):
        return PowerMeter(lambda: abs(_number(current)) * _MICRO * _number(voltage) * _MICRO, 20.0, source)
    return None


def _runs(run: Callable[[], Any], seconds: float) -> tuple[int, float]:
    """How many there were, one at least, and the seconds that they took."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or not count:
        run()
        count += 1
    return count, time.perf_counter() - begun


def _readable(path: Path) -> bool:
    try:
        _number(path)
    except (OSError, ValueError):
        return False
    return True


def _number(path: Path) -> int:
    return int(path.read_text())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
