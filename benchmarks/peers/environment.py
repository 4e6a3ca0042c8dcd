"""An environment of the peers' own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "nncf==3.4.0",
    "openvino==2026.4.1",
    "pillow",
    "psutil",
)
TORCH = "torch==2.13.0"


def python_of(folder: Path) -> Path:
    """The environment's Python; the environment is made if it is not there."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists() or (python.exists() and _has_peers(python)):
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, TORCH], check=True)  # first, so that nothing else chooses another build
    subprocess.run([*pip, TORCH, *PACKAGES], check=True)
    ready.touch()
    return python


def _has_peers(python: Path) -> bool:
    return (
        subprocess.run(
            [
                str(python),
                "-c",
                "import importlib.util as u; assert u.find_spec('nncf') and u.find_spec('onnxruntime')",
            ],
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )
