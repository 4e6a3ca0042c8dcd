"""Ranges judged by the layers that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.graph.load import load
from tests.models import Builder

AUTO: dict[str, Any] = {"base": "int8", "rules": [{"activation": {"range": "auto"}}]}


def spiked(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Channel 0 has rare values a hundred times as large as all others."""
    random = np.random.default_rng(seed)
    feeds = []
    for _ in range(count):
        x = random.standard_normal((1, 8, 12, 12)).astype(np.float32)
        x[0, 0, 3, random.integers(12)] = 100.0
        feeds.append({"x": x})
    return feeds


def network(path: Path, importance: float) -> Path:
    """A convolution that makes as much of channel 0 as the importance says."""
    b = Builder()
    weight = b.random.standard_normal((4, 8, 1, 1)).astype(np.float32)
    weight[:, 0] *= importance
    b.node("Conv", ["x", b.constant(weight), b.weight(4)], "y")
    return b.save(path, {"x": ("N", 8, 12, 12)}, ["y"])


@pytest.mark.parametrize(("importance", "methods"), [(0.0, {"percentile", "entropy"}), (10.0, {"minmax", "mse"})])
def test_what_the_reader_ignores_is_clipped(tmp_path: Path, importance: float, methods: set[str]) -> None:
    model = network(tmp_path / "m.onnx", importance)
    made = fewbit.quantize(model, data=spiked(48, 0), recipe=AUTO, min_sqnr=0, verify=False)
    site = made.plan.sites["x"]
    assert site.method in methods
    assert ("dB less noise than from mse" in site.reason) == (site.method != "mse")


def test_judging_never_loses_on_the_samples_that_confirm(tmp_path: Path) -> None:
    from fewbit.runtimes.onnxruntime import open_session
    from fewbit.runtimes.verify import compare_outputs

    model = network(tmp_path / "m.onnx", 0.0)
    seen, unseen = spiked(48, 0), spiked(16, 1)
    sqnr = []
    for recipe in ("int8", AUTO):
        made = fewbit.quantize(model, data=seen, recipe=recipe, min_sqnr=0, verify=False)
        sqnr.append(compare_outputs(open_session(model), open_session(made.model), unseen)[0].sqnr)
    assert sqnr[1] > sqnr[0] + 3.0


def test_few_samples_are_not_enough_to_judge(tmp_path: Path) -> None:
    model = network(tmp_path / "m.onnx", 0.0)
    made = fewbit.quantize(model, data=spiked(2, 0), recipe=AUTO, min_sqnr=0, verify=False)
    assert made.plan.sites["x"].method == "mse" and "no better range" in made.plan.sites["x"].reason
    assert load(model).fingerprint() == made.plan.fingerprint
