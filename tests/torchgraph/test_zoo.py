"""Real models: the module computes what ONNX Runtime computes."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime as ort
import pytest

from tests.conftest import ROOT

torch = pytest.importorskip("torch")

from fewbit.torchgraph.module import GraphModule, to_torch  # noqa: E402

pytestmark = pytest.mark.zoo

FOLDER = Path(os.environ.get("FEWBIT_ZOO") or ROOT.parent / "shared" / "zoo")
CASES = sorted(path.parent.name for path in FOLDER.glob("*/model.onnx"))
SAMPLES = 3

TOLERANCE = 1e-4
"""Of the largest output. ONNX Runtime's own distance from float64 is up to 8e-5 (a detector without normalization)."""

SINGLE = 5e-4
"""The same in float32, where both sum in orders of their own."""


def run(module: GraphModule, feed: dict[str, np.ndarray], dtype: torch.dtype) -> list[np.ndarray]:
    tensors = {
        n: torch.from_numpy(v).to(dtype) if v.dtype == np.float32 else torch.from_numpy(v) for n, v in feed.items()
    }
    with torch.no_grad():
        return [y.numpy() for y in module(**tensors)]


def distance(made: list[np.ndarray], expected: list[np.ndarray]) -> float:
    assert [y.shape for y in made] == [y.shape for y in expected]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(made, expected, strict=True))


def measure(zoo: ModuleType, name: str) -> tuple[float, float]:
    """Largest distance of ONNX Runtime's outputs from the module's in float64 and in float32, over some samples."""
    case = zoo.load(name)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(case.model, options)
    single = to_torch(case.model)
    double = to_torch(case.model).double()
    found = []
    for _, feed in zip(range(SAMPLES), case.calibration(SAMPLES), strict=False):
        expected = session.run(None, feed)
        found.append(
            [distance(run(m, feed, t), expected) for m, t in ((double, torch.float64), (single, torch.float32))]
        )
    worst = np.max(found, 0)
    return float(worst[0]), float(worst[1])


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(zoo: ModuleType, name: str) -> None:
    double, single = measure(zoo, name)
    assert double <= TOLERANCE and single <= SINGLE


@pytest.mark.parametrize("name", CASES)
def test_every_weight_learns(zoo: ModuleType, name: str) -> None:
    case = zoo.load(name)
    module = to_torch(case.model)
    feed = next(iter(case.calibration(1)))
    tensors = {n: torch.from_numpy(v) for n, v in feed.items()}
    torch.manual_seed(0)  # noise, as a square root has no gradient where silence makes it exactly 0
    outputs = module(**{n: t + 0.01 * torch.randn(t.shape) if t.is_floating_point() else t for n, t in tensors.items()})
    torch.stack([y.square().sum() for y in outputs]).sum().backward()
    assert [n for n, p in module.weights().items() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize("name", CASES)
def test_exports_with_static_shapes(zoo: ModuleType, name: str) -> None:
    case = zoo.load(name)
    module = to_torch(case.model, trainable=False).eval()
    feed = next(iter(case.calibration(1)))
    inputs = tuple(torch.from_numpy(feed[n]) for n in module.input_names)
    program = torch.export.export(module, inputs, strict=False)
    for a, b in zip(program.module()(*inputs), module(*inputs), strict=True):
        assert torch.equal(a, b)
