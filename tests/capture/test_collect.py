from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.capture.collect import collect, fetch
from fewbit.capture.grid import GridFinder
from fewbit.core.stats import TensorStats
from fewbit.errors import DataError
from fewbit.graph.load import load
from tests.models import Builder, conv_relu_conv


def feeds(count: int, *shape: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def test_taps_see_what_fetching_the_values_whole_sees(tmp_path: Path) -> None:
    hub = load(conv_relu_conv(tmp_path / "m.onnx"))
    names = ["x", *(str(n.outputs[0].name) for n in hub.nodes())]
    samples = feeds(5, 2, 3, 8, 8)
    taken = collect(hub, dict.fromkeys(names, 1), samples, max_values=1 << 20).stats
    for name in names:
        whole = TensorStats(1)
        for values in fetch(hub, [name], samples):
            whole.update(values[name], 1 << 20)
        assert taken[name].count == whole.count
        assert np.allclose(taken[name].channel_min, whole.channel_min, atol=1e-6)
        assert np.allclose(taken[name].channel_max, whole.channel_max, atol=1e-6)
        assert np.allclose(taken[name].channel_mean, whole.channel_mean, atol=1e-5)
        moved = np.abs(taken[name].histogram.counts - whole.histogram.counts).sum() / whole.count
        assert moved < 0.01  # values that rounding puts on the other side of a bin's edge


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_taps_at_several_opsets_and_ranks(tmp_path: Path, opset: int) -> None:
    b = Builder()
    b.node("Relu", [b.node("MatMul", ["x", b.weight(4, 6)])], "y")
    hub = load(b.save(tmp_path / "m.onnx", {"x": ("N", "T", 4)}, ["y"], opset=opset))
    samples = [*feeds(2, 1, 3, 4), *feeds(2, 1, 7, 4)]  # lengths differ
    stats = collect(hub, {"y": -1, "x": None}, samples).stats
    assert stats["y"].channel_mean.shape == (6,) and stats["y"].minimum == 0.0
    assert stats["x"].count == 2 * 12 + 2 * 28 and stats["x"].channel_mean.shape == (1,)


def test_strided_values_do_not_lie_at_the_same_places_in_every_sample(tmp_path: Path) -> None:
    """One outlier that is always at the same place, where every eleventh value is looked at."""
    hub = load(conv_relu_conv(tmp_path / "m.onnx"))
    x = np.zeros((1, 3, 8, 8), np.float32)
    x[0, 1, 4, 5] = 9.0
    counts = collect(hub, {"x": 1}, [{"x": x}] * 220, max_values=192 // 8).stats["x"].histogram.counts
    assert counts[0x4110] == 20  # the upper half of 9.0 as a float32


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples"):
        collect(load(conv_relu_conv(tmp_path / "m.onnx")), {"x": 1}, [])


def test_infinite_activations_do_not_spoil_the_rest(tmp_path: Path) -> None:
    b = Builder()
    b.node("Add", ["x", b.constant(np.array([0.0, -np.inf], np.float32))], "y")
    b.node("Softmax", ["y"], "z")
    hub = load(b.save(tmp_path / "m.onnx", {"x": (1, 2)}, ["z"]))
    stats = collect(hub, {"y": None}, [{"x": np.array([[3.0, 1.0]], np.float32)}]).stats["y"]
    assert stats.nonfinite_samples == 1 and stats.histogram.nonfinite == 1
    assert np.isfinite([stats.minimum, stats.maximum]).all() and stats.maximum == 3.0


def test_grids() -> None:
    def found(*arrays: np.ndarray) -> dict[str, float]:
        finder = GridFinder(["x"])
        list(finder.watch([{"x": a.astype(np.float32)} for a in arrays]))
        return finder.found()

    pixels = np.arange(256)
    assert found(pixels) == {"x": 1.0}
    assert found((pixels - 127) / 128)["x"] == pytest.approx(1 / 128)
    assert found(pixels[::4]) == {"x": 4.0}
    assert found(pixels[::4], np.array([1.0, 2.0])) == {}  # the second sample is off the grid of the first
    assert found((pixels / 255 - 0.485) / 0.229) == {}  # zero is not on it
    assert found(np.random.default_rng(0).standard_normal(5000)) == {}
