from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fewbit.errors import DataError, ModelError
from fewbit.runtimes.cpu import cpu_features
from fewbit.runtimes.memory import peak_memory
from fewbit.runtimes.onnxruntime import open_session
from fewbit.runtimes.verify import kernels
from fewbit.testing.runtime import RuntimeContract
from tests.models import Builder, conv_relu_conv


class TestOnnxRuntime(RuntimeContract):
    """ONNX Runtime keeps the contract of every runtime."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        return conv_relu_conv(tmp_path / "m.onnx")

    def open(self, model: Path) -> object:
        return open_session(model)

    def feed(self) -> dict[str, np.ndarray]:
        return {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def test_kernels_of_a_float_model(tmp_path: Path) -> None:
    found = kernels(conv_relu_conv(tmp_path / "m.onnx"))
    assert not found.integer and found.float_heavy == {"Conv": 2}


def test_errors_are_one_line(tmp_path: Path) -> None:
    session = open_session(conv_relu_conv(tmp_path / "m.onnx"))
    with pytest.raises(DataError, match="cannot run the model") as caught:
        session.run({"x": np.zeros((1, 4, 8, 8), np.float32)})
    assert "\n" not in str(caught.value)
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot load"):
        open_session(tmp_path / "bad.onnx")


def test_memory_is_that_of_a_fresh_process(tmp_path: Path) -> None:
    ballast = np.ones(200_000_000 // 8)  # of this process, which must not count
    model = conv_relu_conv(tmp_path / "m.onnx")
    used = peak_memory(model, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert 1_000_000 < used < 100_000_000 < ballast.nbytes


def test_cpu_features() -> None:
    cpu = cpu_features()
    assert cpu.name and cpu.cores >= 1 and cpu.vnni in (True, False, None)


def test_the_callers_arithmetic_is_left_alone(tmp_path: Path) -> None:
    """Flushing denormals is a mode of the thread: a library must not leave it on."""
    code = (
        "import numpy as np, sys; from fewbit.runtimes.onnxruntime import open_session\n"
        "session = open_session(sys.argv[1])\n"
        "session.run({'x': np.zeros((1, 3, 8, 8), np.float32)})\n"
        "assert np.float32(1e-40) * np.float32(0.5) > 0\n"
    )
    model = conv_relu_conv(tmp_path / "m.onnx")
    subprocess.run([sys.executable, "-c", code, str(model)], check=True)


def test_scalars_stay_scalars_in_memory_that_is_there(tmp_path: Path) -> None:
    b = Builder()
    b.node("Unsqueeze", ["x", b.constant([0])], "y")
    session = open_session(b.save(tmp_path / "m.onnx", {"x": ()}, ["y"]), optimize=False)
    session.bound({"x": np.array(1.0, np.float32)})()
