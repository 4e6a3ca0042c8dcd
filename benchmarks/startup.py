"""Seconds that `import fewbit` and `fewbit --help` take, as whole processes: median of 15, the bare interpreter beside."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import fewbit'": ["-c", "import fewbit"],
    "python -m fewbit --help": ["-m", "fewbit", "--help"],
}


def main() -> None:
    for name, arguments in COMMANDS.items():
        times = []
        for _ in range(15):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        print(f"{name}: {statistics.median(times):.3f} s")


main()
