"""Plans as ONNX graphs for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fewbit
from tests.models import Builder


@pytest.mark.parametrize("target", ["ort-cpu", "litert-cpu"])
def test_an_output_that_moves_integers_and_is_read_by_an_integer_layer(target: str, tmp_path: Path) -> None:
    """It is declared float, whatever the node that moves the integers makes inside."""
    if target == "litert-cpu":
        pytest.importorskip("ai_edge_litert")
    b = Builder()
    hidden = b.node("Sigmoid", [b.node("Conv", ["x", b.weight(8, 3, 3, 3), b.weight(8)], pads=[1, 1, 1, 1])])
    moved = b.node("Transpose", [hidden], perm=[0, 2, 3, 1])
    y = b.node("Reshape", [moved, b.constant(np.array([1, 64, 8], np.int64))], "y")
    back = b.node("Transpose", [y], perm=[0, 2, 1])
    back = b.node("Reshape", [back, b.constant(np.array([1, 8, 8, 8], np.int64))])
    b.node("Conv", [back, b.weight(4, 8, 1, 1), b.weight(4)], "z")
    path = b.save(tmp_path / "m.onnx", {"x": (1, 3, 8, 8)}, ["y", "z"])
    data = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    result = fewbit.quantize(path, data, target=target)
    assert result.plan.forms() == {"integer": 3, "passthrough": 4}
    assert result.verification is not None
    assert all(output.sqnr > 35.0 for output in result.verification.outputs)
