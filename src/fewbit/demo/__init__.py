"""A small trained network and its data, for `fewbit demo` and the tests; tools/train_demo.py makes them."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

MODEL = _HERE / "digits.onnx"
CALIBRATION = _HERE / "calibration.npz"
EVALUATION = _HERE / "evaluation.npz"
