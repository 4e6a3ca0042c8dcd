"""What single samples show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.capture.pooled import pooled
from fewbit.errors import DataError
from fewbit.graph.load import load
from tests.models import Builder


def test_ranges_and_means_of_channels_are_each_samples_own(tmp_path: Path) -> None:
    build = Builder()
    weight = build.constant(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1))
    out = build.node("Conv", ["x", weight])
    hub = load(build.save(tmp_path / "m.onnx", {"x": ("N", 2, 1, 2)}, [out]))
    feeds = [{"x": np.array([[[[1.0, 3.0]], [[-2.0, 6.0]]]], np.float32) * scale} for scale in (1.0, -2.0)]
    first, second = pooled(hub, {"x": 1}, feeds)
    assert [part.tolist() for part in first["x"]] == [[1.0, -2.0], [3.0, 6.0], [2.0, 2.0]]
    assert [part.tolist() for part in second["x"]] == [[-6.0, -12.0], [-2.0, 4.0], [-4.0, -4.0]]
    (whole,) = pooled(hub, {"x": None}, feeds[:1])
    assert [part.tolist() for part in whole["x"]] == [[-2.0], [6.0], [2.0]]


def test_no_samples(digits: Path) -> None:
    with pytest.raises(DataError, match="there are no samples"):
        next(pooled(load(digits), {"image": 1}, []))
