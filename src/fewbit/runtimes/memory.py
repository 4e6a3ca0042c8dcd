"""Peak memory of a model, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.errors import ModelError
from fewbit.runtimes.onnxruntime import FLUSH_DENORMALS

_CHILD = """
import json, resource, sys
import numpy as np
from fewbit.runtimes.table import runtime_of
def peak():
    # VmHWM belongs to this program; ru_maxrss would start from the peak of the process that started it.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
model, feed, threads = sys.argv[1], dict(np.load(sys.argv[2])), int(sys.argv[3])
runtime = runtime_of(model)
runtime.preload()
bare = peak()
run = runtime.open_session(model, threads=threads).timed(feed)
for _ in range(3):
    run()
print(json.dumps({"bare": bare, "peak": peak()}))
"""


def peak_memory(model: str | Path, feed: Mapping[str, np.ndarray[Any, Any]], threads: int = 1) -> int:
    """Bytes that loading a model and running it three times adds to the peak of a fresh process, in the runtime that opens it.

    Raises:
        ModelError: the process fails.
    """
    # What this process can import, the other one can too.
    environment = {**os.environ, FLUSH_DENORMALS: "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.npz"
        np.savez(path, **dict(feed))  # type: ignore[arg-type]
        command = [sys.executable, "-c", _CHILD, str(model), str(path), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"measuring the memory of {model} failed: {last}")
    figures = json.loads(done.stdout)
    return int(figures["peak"]) - int(figures["bare"])
