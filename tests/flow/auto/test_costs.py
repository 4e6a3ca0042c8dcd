"""The table of the demo network in the real runtime, the mixtures that come of it, and a search that tries them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import fewbit
from fewbit.flow.auto.costs import Pricer, costs
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.flow.auto.units import names_of, parts_of
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.opening import load
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def setup(digits: Path, samples: Path, target: str) -> tuple[Setup, Splits]:
    made = Setup(str(digits), str(samples), None, None, "cosine", None, target, 0, 0.95, 8)
    return made, Splits((0, 1, 2, 3), (), (), ())


def noise(digits: Path) -> list[dict[str, Any]]:
    """Of every layer with a weight: 0.001 in int8."""
    nodes = [str(n.name) for n in load(digits).nodes() if n.op_type in ("Conv", "Gemm", "MatMul")]
    return [{"nodes": [name], "formats": {"int8": {"noise": 0.001}}} for name in nodes]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ort-cpu", "litert-cpu"])
def test_the_table_holds_every_layer_and_is_reused(
    digits: Path, samples: Path, tmp_path: Path, cache: Path, target: str
) -> None:
    given = setup(digits, samples, target)
    first = costs(*given, noise(digits), tmp_path, SILENT)
    assert first["measured"] > 10 and first["notes"] == []
    heavy = {layer["nodes"][0] for layer in noise(digits)}
    parts = {part["nodes"][0]: part["milliseconds"] for part in first["parts"]}
    assert heavy <= parts.keys()
    for form in ("float", "int8"):  # the least of them may be nothing beside a call
        assert all(parts[name][form] >= 0 for name in heavy) and sum(parts[name][form] for name in heavy) > 0
    nodes = [name for part in first["parts"] for name in part["nodes"]]
    assert sorted(nodes) == sorted(str(n.name) for n in load(digits).nodes())
    fastest = first["mixtures"][0]
    assert fastest["milliseconds"] <= 1.001 * min(first["uniform"]["float"], first["uniform"]["int8"])
    assert fastest["noise"] == pytest.approx(0.001 * fastest["counts"]["int8"])
    assert sum(fastest["counts"].values()) == len(heavy)
    again = costs(*given, noise(digits), tmp_path, SILENT)
    assert again["measured"] == 0 and again["uniform"] == first["uniform"]
    (kept,) = (cache / "latency").iterdir()
    assert all(math.isfinite(x) for x in json.loads(kept.read_text())["milliseconds"].values())


def test_a_part_is_what_one_kernel_does(digits: Path, samples: Path) -> None:
    hub = load(digits)
    source, _ = samples_in_layout(samples, hub_inputs(hub), limit=2, preprocess=None, purpose="calibration")
    job = Calibrator(hub, target_for("ort-cpu"), 1, SILENT, EFFORTS["fast"], source)
    plan = job.plan(Recipe.get("int8"))
    parts, between = parts_of(hub, plan, set(names_of(hub).values()))
    ops = {str(n.name): n.op_type for n in hub.nodes()}
    told = [[ops[name] for name in part.nodes] for part in parts]
    assert told == [
        ["Conv", "Relu"],
        ["Conv", "Relu"],
        ["Conv"],
        ["Add", "Relu"],
        ["Conv", "Relu"],
        ["Conv"],
        ["Add", "Relu"],
        ["Conv", "Relu"],
        ["Conv", "Relu"],
        ["GlobalAveragePool", "Flatten"],
        ["Gemm"],
    ]
    assert next(b.source for b in between) is None and any(b.ends for b in between)


@pytest.mark.slow
def test_a_search_for_speed_tries_the_mixture_that_the_table_foretells(
    digits: Path, samples: Path, tmp_path: Path, cache: Path
) -> None:
    # A table in which the integer form of one small layer takes a millisecond: a mixture leaves that layer in float.
    hub = load(digits)
    source, _ = samples_in_layout(samples, hub_inputs(hub), limit=4, preprocess=None, purpose="calibration")
    pricer = Pricer(hub, setup(digits, samples, "ort-cpu")[0], source, SILENT)
    pricer.price(None)
    kernels = pricer.price(pricer.job.plan(Recipe.get("int8")))
    (digest,) = [kernel.digest for kernel, _ in kernels if "conv5" in kernel.names]  # depthwise
    (path,) = (cache / "latency").iterdir()
    table = json.loads(path.read_text())
    table["milliseconds"][digest] = 1.0
    path.write_text(json.dumps(table))

    result = fewbit.auto(
        digits,
        samples,
        samples.with_name("evaluation.npz"),
        "top1",
        objective="latency",
        max_drop="5pt",
        out=tmp_path / "out",
    )
    tried = [c for c in result.document["candidates"] if c["stage"] == "allocation"]
    assert tried[0]["id"] == "mixed-fast" and tried[0]["status"] in ("measured", "stopped")
    assert "the times of its kernels foretell ×" in tried[0]["why"] and "layers float" in tried[0]["why"]
