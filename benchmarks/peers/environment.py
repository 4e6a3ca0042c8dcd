"""Environments of the peers' own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
PACKAGES: dict[str, tuple[str, ...]] = {
    "ort": (
        "onnxruntime==1.32.0",
        "onnx==1.23.2",
        "onnx-ir==1.1.0",
        "nncf==3.4.0",
        "openvino==2026.4.1",
        "pillow",
        "psutil",
    ),
    "aimet": ("aimet-onnx==2.42.0", "onnxruntime==1.32.0", "onnxsim", "pillow", "psutil"),
}
"""Environment → its packages; those of AIMET and NNCF do not go together."""


def environment_of(tool: str) -> str:
    """The environment that a peer runs in."""
    return "aimet" if tool.startswith("aimet") else "ort"


def python_of(folder: Path, name: str) -> Path:
    """The Python of an environment under a folder; the environment is made if it is not there."""
    home = folder / name
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, TORCH], check=True)  # first, so that nothing else chooses another build
    subprocess.run([*pip, TORCH, *PACKAGES[name]], check=True)
    ready.touch()
    return python
