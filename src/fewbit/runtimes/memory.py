"""Peak memory of a model, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.errors import ModelError

_CHILD = """
import json, resource, sys
import numpy as np
import onnxruntime
def peak():
    # VmHWM belongs to this program; ru_maxrss would start from the peak of the process that started it.
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
model, feed, threads = sys.argv[1], dict(np.load(sys.argv[2])), int(sys.argv[3])
bare = peak()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.log_severity_level = 4
options.add_session_config_entry("session.set_denormal_as_zero", "1")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
for _ in range(3):
    session.run(None, feed)
print(json.dumps({"bare": bare, "peak": peak()}))
"""


def peak_memory(model: str | Path, feed: Mapping[str, np.ndarray[Any, Any]], threads: int = 1) -> int:
    """Bytes that loading a model and running it three times adds to the peak of a fresh process.

    Raises:
        ModelError: the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feed.npz"
        np.savez(path, **dict(feed))  # type: ignore[arg-type]
        command = [sys.executable, "-c", _CHILD, str(model), str(path), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"measuring the memory of {model} failed: {last}")
    figures = json.loads(done.stdout)
    return int(figures["peak"]) - int(figures["bare"])
