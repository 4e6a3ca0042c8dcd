"""What a command costs as a whole process: wall and CPU seconds, peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    seconds: float
    cpu_seconds: float
    peak_mb: float
    exit_code: int

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def run(command: list[str], log: Path, environment: dict[str, str] | None = None, timeout: float = 3600) -> Cost:
    """Run a command to its end; its output goes to `log`."""
    started = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        deadline = started + timeout
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() > deadline:
                process.kill()
            time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
    return Cost(
        round(time.perf_counter() - started, 2),
        round(usage.ru_utime + usage.ru_stime, 2),
        round(usage.ru_maxrss / 1024),
        process.returncode,
    )
