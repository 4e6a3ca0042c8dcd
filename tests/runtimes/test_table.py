from __future__ import annotations

from pathlib import Path

import pytest

from fewbit.errors import ModelError
from fewbit.runtimes.table import EXECUTORCH, LITERT, ONNX_RUNTIME, open_model, runtime_of
from tests.models import conv_relu_conv


def test_the_content_tells_the_runtime(tmp_path: Path) -> None:
    model = conv_relu_conv(tmp_path / "named.tflite")
    assert runtime_of(model) is ONNX_RUNTIME
    (tmp_path / "named.onnx").write_bytes(b"\x1c\0\0\0TFL3")
    assert runtime_of(tmp_path / "named.onnx") is LITERT
    (tmp_path / "named.onnx").write_bytes(b"\x30\0\0\0ET12")
    assert runtime_of(tmp_path / "named.onnx") is EXECUTORCH
    (tmp_path / "other").write_bytes(b"")
    assert runtime_of(tmp_path / "other") is ONNX_RUNTIME


def test_a_runtime_says_what_runs(tmp_path: Path) -> None:
    model = conv_relu_conv(tmp_path / "m.onnx")
    assert open_model(model).inputs == ["x"]
    assert ONNX_RUNTIME.kernels(model).float_heavy == {"Conv": 2}
    executed = ONNX_RUNTIME.execution(model).ops
    assert {op.where for op in executed} == {"ONNX Runtime"} and sum(op.count for op in executed) >= 2
    assert ONNX_RUNTIME.version().count(".") == 2


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.tflite does not exist"):
        runtime_of(tmp_path / "absent.tflite")
    with pytest.raises(ModelError, match="cannot be read"):
        runtime_of(tmp_path)
