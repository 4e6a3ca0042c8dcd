"""A model run piece by piece gives what it gives as a whole, in float and quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.capture import stepwise
from fewbit.capture.collect import collect, fetch
from fewbit.capture.stepwise import Decisions, Stepwise
from fewbit.core.affine import fake_quantize, params_from_range
from fewbit.graph.load import load
from fewbit.spec import UINT8, QSpec
from tests.models import Builder


def model(path: Path) -> Path:
    """Two convolutions in a row, a third beside them whose result is added, and a head."""
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(6, 3, 3, 3), b.weight(6)], pads=[1, 1, 1, 1])], "first")
    y = b.node("Conv", [x, b.weight(6, 6, 1, 1), b.weight(6)], "second")
    total = b.node("Add", [y, b.node("Conv", ["x", b.weight(6, 3, 1, 1)])], "total")
    b.node("Gemm", [b.node("Flatten", [b.node("GlobalAveragePool", [total])]), b.weight(6, 4), b.weight(4)], "y")
    return b.save(path, {"x": ("N", 3, 8, 8)}, ["y"])


def feeds(count: int = 5) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("memory", [0, 4000, 1 << 30])
def test_pieces_add_up_to_the_float_model(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = load(model(tmp_path / "m.onnx"))
    monkeypatch.setattr(stepwise, "_MEMORY", memory)
    with Stepwise(hub, feeds()) as run:
        for node in hub.nodes():
            if node.op_type in ("Conv", "Gemm"):
                run.step([node], Decisions())
                name = str(node.inputs[0].name)
                whole = [values[name] for values in fetch(hub, [name], feeds())]
                for (real, quantized), wanted in zip(run.inputs_of(node, Decisions()), whole, strict=True):
                    np.testing.assert_allclose(real, wanted, rtol=1e-5, atol=1e-6)
                    assert np.array_equal(real, quantized)


def test_samples_beyond_what_the_disk_may_hold_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = load(model(tmp_path / "m.onnx"))
    monkeypatch.setattr(stepwise, "_MEMORY", 0)
    monkeypatch.setattr(stepwise, "_DISK", 1)
    with Stepwise(hub, feeds(7)) as run:
        for node in hub.nodes():
            if node.op_type in ("Conv", "Gemm"):
                run.step([node], Decisions())
                name = str(node.inputs[0].name)
                whole = [values[name] for values in fetch(hub, [name], feeds(4))]
                given = [real for real, _ in run.inputs_of(node, Decisions())]
                assert len(given) == 4
                np.testing.assert_allclose(given, whole, rtol=1e-5, atol=1e-6)


def test_what_was_decided_happens_between_the_pieces_and_nothing_else(tmp_path: Path) -> None:
    """The runtime would quantize the float weights of a convolution between two pairs of Q and DQ by itself."""
    hub = load(model(tmp_path / "m.onnx"))
    seen = collect(hub, {"x": 1, "first": 1}, feeds()).stats
    spec = QSpec(UINT8, symmetric=False)
    ranges = {name: params_from_range(s.minimum, s.maximum, spec) for name, s in seen.items()}
    decisions = Decisions(made={"first": (ranges["first"], None)})
    first, second = [node for node in hub.nodes() if node.op_type == "Conv"][:2]
    decisions.read["x"] = (ranges["x"], None, (str(first.name),))
    with Stepwise(hub, feeds()) as run:
        run.step([second], decisions)
        given = [quantized for _, quantized in run.inputs_of(second, decisions)]
    rounded = [{"x": fake_quantize(feed["x"], ranges["x"])} for feed in feeds()]
    for quantized, values in zip(given, fetch(hub, ["first"], rounded), strict=True):
        wanted = fake_quantize(values["first"], ranges["first"])
        step = float(ranges["first"].scale)
        assert np.abs(quantized - wanted).max() <= 1.01 * step  # one tie may fall to the other side
        assert np.mean(quantized != wanted) < 0.01
