"""Weights rounded by their layers' outputs beat the nearest integers, on samples that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.flow.calibrate import EFFORTS
from fewbit.graph.load import load
from fewbit.measure.compare import OutputComparison
from fewbit.plan.balanced import effective_weight
from fewbit.runtimes.onnxruntime import open_session
from tests.models import Builder, attention, conv_relu_conv


def mixed(channels: int, count: int, seed: int, size: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Samples whose channels depend on each other, as those of real layers do: independent ones leave nothing to gain."""
    mixing = np.random.default_rng(7).standard_normal((channels, channels)) * np.geomspace(1.0, 0.05, channels)
    random = np.random.default_rng(seed)
    return [
        np.einsum("ij,j...->i...", mixing, random.standard_normal((channels, *size)))[None].astype(np.float32)
        for _ in range(count)
    ]


def network(path: Path) -> Path:
    """Dense, depthwise and grouped convolutions, and a head."""
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(16, 8, 3, 3), b.weight(16)], pads=[1, 1, 1, 1])])
    x = b.node("Relu", [b.node("Conv", [x, b.weight(16, 1, 3, 3), b.weight(16)], group=16, pads=[1, 1, 1, 1])])
    x = b.node("Relu", [b.node("Conv", [x, b.weight(16, 4, 3, 3), b.weight(16)], group=4, strides=[2, 2])])
    b.node("Gemm", [b.node("Flatten", [x]), b.weight(16 * 9, 10, scale=0.1), b.weight(10)], "y")
    return b.save(path, {"x": ("N", 8, 8, 8)}, ["y"])


def kept(model: Path, recipe: str | Mapping[str, Any], seen: list[Any], unseen: list[Any], effort: str) -> float:
    """dB on samples that calibration has not seen."""
    made = fewbit.quantize(model, data=seen, recipe=recipe, effort=effort, min_sqnr=0, verify=False)
    sessions = open_session(model), open_session(made.model)
    comparison = OutputComparison("y")
    for feed in unseen:
        comparison.update(*(session.run(feed)[0] for session in sessions))
    return comparison.sqnr


@pytest.mark.parametrize(("recipe", "gain"), [("w4a8", 1.0), ("int4-weights", 1.0), ("w4a16", 1.0)])
def test_convolutions_gain_where_bits_are_few(tmp_path: Path, recipe: str, gain: float) -> None:
    model = network(tmp_path / "m.onnx")
    seen, unseen = ([{"x": x} for x in mixed(8, 32, seed, (8, 8))] for seed in (1, 2))
    nearest, rounded = (kept(model, recipe, seen, unseen, effort) for effort in ("fast", "standard"))
    assert rounded > nearest + gain


@pytest.mark.parametrize(
    "weight",
    [
        {"dtype": "int4"},
        {"dtype": "int4", "granularity": "group", "group_size": 16},
        {"dtype": "uint4", "symmetric": False, "granularity": "group", "group_size": 8},
        {"dtype": "uint2", "symmetric": False, "granularity": "group", "group_size": 32},
        {"dtype": "int4", "granularity": "tensor"},
    ],
    ids=lambda w: " ".join(map(str, w.values())),
)
def test_matrices_gain_with_any_blocks(tmp_path: Path, weight: dict[str, Any]) -> None:
    b = Builder()
    hidden = b.node("Relu", [b.node("Add", [b.node("MatMul", ["x", b.weight(48, 40)]), b.weight(40)])])
    b.node("MatMul", [hidden, b.weight(40, 24)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 48)}, ["y"])
    recipe = {"name": "test", "rules": [{"compute": "storage", "weight": weight}]}
    seen, unseen = ([{"x": x} for x in mixed(48, 400, seed)] for seed in (1, 2))
    fast = {"name": "test", "rules": [{"compute": "storage", "weight": {**weight, "bias_correction": True}}]}
    assert kept(model, recipe, seen, unseen, "standard") > kept(model, fast, seen, unseen, "fast") + 1.0


def test_attention_is_rounded_too(tmp_path: Path) -> None:
    model = attention(tmp_path / "m.onnx")
    seen, unseen = ([{"x": x.transpose(0, 2, 1)} for x in mixed(32, 24, seed, (16,))] for seed in (1, 2))
    nearest, rounded = (kept(model, "int4-weights", seen, unseen, effort) for effort in ("fast", "standard"))
    assert rounded > nearest


@pytest.mark.parametrize(
    ("size", "efforts"), [(8, {"fast": False, "standard": True}), (1 << 16, {"standard": False, "max": True})], ids=str
)
def test_eight_bits_are_rounded_in_small_networks_or_at_max_effort(
    tmp_path: Path, size: int, efforts: dict[str, bool]
) -> None:
    """A matrix of 65,536 outputs is not small; as many inputs would take a Gram matrix of gigabytes, and stay the nearest."""
    b = Builder()
    hidden = b.node("Relu", [b.node("Gemm", ["x", b.weight(8, size), b.weight(size)])])
    b.node("Gemm", [hidden, b.weight(size, 4), b.weight(4)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 8)}, ["y"])
    data = [{"x": x} for x in mixed(8, 8, 1)]
    for effort, expected in efforts.items():
        plan = fewbit.quantize(model, data=data, effort=effort, verify=False).plan
        assert any(site.integers is not None for site in plan.constants().values()) is expected, effort
    assert EFFORTS["standard"].rounding_samples > 0


def test_a_saved_plan_keeps_the_integers(tmp_path: Path) -> None:
    model = conv_relu_conv(tmp_path / "m.onnx")
    data = [{"x": x} for x in mixed(3, 8, 1, (8, 8))]
    made = fewbit.quantize(model, data=data, recipe="w4a8", verify=False)
    made.plan.save(str(tmp_path / "plan.json"))
    again = fewbit.quantize(model, data=data, plan=tmp_path / "plan.json", verify=False)
    feed = data[0]
    first, second = (open_session(m.model).run(feed)[0] for m in (made, again))
    assert np.array_equal(first, second)
    assert any(site.integers is not None for site in again.plan.constants().values())


def test_the_range_of_a_weight_can_be_that_of_hqq(tmp_path: Path) -> None:
    """Heavy tails: a few large errors leave small ones to all others."""
    b = Builder()
    heavy = b.random.standard_t(2.0, (64, 64)).astype(np.float32)
    b.node("MatMul", ["x", b.constant(heavy)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 64)}, ["y"])
    medians = {}
    for method in ("absmax", "mse", "hqq"):
        weight = {"dtype": "uint4", "symmetric": False, "granularity": "group", "group_size": 32, "range": method}
        plan = fewbit.quantize(
            model, recipe={"name": "test", "rules": [{"compute": "storage", "weight": weight}]}, verify=False
        ).plan
        hub = load(model)
        node = hub.nodes()[0]
        value = node.inputs[1]
        assert value is not None
        medians[method] = float(np.median(np.abs(effective_weight(hub, plan, node, value) - heavy)))
    assert medians["hqq"] < medians["mse"] and medians["hqq"] < medians["absmax"]


def test_what_keeps_the_nearest_integers_is_named(tmp_path: Path) -> None:
    b = Builder()
    shared = b.weight(32, 32)
    hidden = b.node("Relu", [b.node("MatMul", ["x", shared])])
    b.node("MatMul", [b.node("MatMul", [hidden, shared]), b.weight(32, 32)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": ("N", 32)}, ["y"])
    made = fewbit.quantize(model, data=[{"x": x} for x in mixed(32, 8, 1)], recipe="int4-weights", verify=False)
    (note,) = [note for note in made.notes if "nearest integers" in note]
    assert note.count(shared) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_one_sample_is_enough_to_go_on(digits: Path, samples: Path, count: int) -> None:
    """Of one vector the Gram matrix around the mean is zero; its rounding errors are no matrix that can be solved."""
    plan = fewbit.quantize(digits, samples, "int4-weights", limit=count, verify=False).plan
    assert all(np.isfinite(site.params.scale).all() for site in plan.constants().values() if site.params is not None)
