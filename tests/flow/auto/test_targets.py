"""Searches for targets that are not ONNX Runtime's: what is asked of each, and what counts where nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.data.source import open_source
from fewbit.errors import RecipeError
from fewbit.flow.auto.manifest import reproduce
from fewbit.flow.auto.mixed import FORMATS
from fewbit.flow.common import hub_inputs
from fewbit.graph.load import load
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve
from fewbit.search.ladder import LADDERS
from fewbit.targets import TARGETS
from tests.models import Builder

_NARROW = {"integer", "dynamic", "weight_only", "storage"}


@pytest.fixture
def labelled(digits: Path) -> Path:
    return digits.with_name("evaluation.npz")


class ScoreOfLabel:
    """The mean score of the right class: it tells apart what is rounded otherwise."""

    higher_is_better = True

    def __call__(self, outputs: Sequence[Any], labels: Sequence[Any]) -> float:
        return float(np.mean([given[0].reshape(-1)[int(label)] for given, label in zip(outputs, labels, strict=True)]))


def convolution_and_product(path: Path) -> Path:
    b = Builder()
    x = b.node("Relu", [b.node("Conv", ["x", b.weight(32, 3, 3, 3)], pads=[1, 1, 1, 1])])
    pooled = b.node("Flatten", [b.node("GlobalAveragePool", [x])])
    b.node("Gemm", [pooled, b.weight(32, 64), b.weight(64)], "y")
    return b.save(path, {"x": (1, 3, 8, 8)}, ["y"])


@pytest.mark.parametrize(("target", "objective"), [*LADDERS])
def test_the_target_has_a_form_for_what_is_tried(target: str, objective: Any, tmp_path: Path) -> None:
    hub = load(convolution_and_product(tmp_path / "m.onnx"))
    for name in {*dict(LADDERS[target, objective]), *(FORMATS.get(target, ()) if objective == "size" else ())}:
        plan = resolve(hub, Recipe.get(name), TARGETS[target])
        assert _NARROW & {node.form for node in plan.nodes.values()}, name


class TestMicro:
    """Nothing is timed for it, and it has no float."""

    target = "litert-micro"

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        pytest.importorskip("ai_edge_litert")

    def test_work_is_compared_where_nothing_is_timed(
        self, digits: Path, samples: Path, labelled: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        result = fewbit.auto(digits, samples, labelled, "top1", self.target, "3pt", out=out)
        document = result.document
        assert document["objective"] == "latency" and document["compared_by"] == "energy"
        assert any("nothing is timed for litert-micro" in note for note in document["notes"])
        int8, wide = document["candidates"]
        assert document["chosen"] == "int8" and (int8["frontier"], wide["id"]) == (True, "a16w8")
        assert int8["energy"]["ratio"] < wide["energy"]["ratio"] < 1
        for one in (int8, wide):
            assert one["latency"] is None and one["status"] == "measured"
        assert 0 < int8["memory"] < wide["memory"]  # activations of 8 bits and of 16
        assert "times as fast" not in document["verdict"]["sentence"]
        page = (out / "report.html").read_text()
        assert "latency, compared by energy: nothing was timed" in page and "times less energy than float" in page
        assert "faster than float" not in page
        assert reproduce(out / "manifest.json", tmp_path / "again.tflite").same

    def test_the_device_s_own_kernels_are_scored(
        self, digits: Path, samples: Path, labelled: Path, tmp_path: Path
    ) -> None:
        from fewbit.runtimes.litert import open_session

        out, metric = tmp_path / "out", ScoreOfLabel()
        arguments: dict[str, Any] = {"recipes": ["int8"], "max_drop": 1.0, "out": out}
        result = fewbit.auto(digits, samples, labelled, metric, self.target, **arguments)
        splits = json.loads((out / "manifest.json").read_text())["splits"]["search"]
        source = [*open_source(labelled, inputs=hub_inputs(load(digits)), limit=None, preprocess=None)]
        given = [source[i] for i in splits]
        own, other = (
            metric([session.run(sample.feed) for sample in given], [sample.label for sample in given])
            for session in (open_session(result.path, kernels=kernels) for kernels in ("reference", "xnnpack"))
        )
        assert own != other
        assert result.document["candidates"][0]["value"] == pytest.approx(own, abs=1e-9)

    @pytest.mark.slow
    def test_float_is_no_way_out(self, digits: Path, samples: Path, labelled: Path, tmp_path: Path) -> None:
        options: dict[str, Any] = {"max_drop": "0.01pt", "strict": True, "budget": "1h", "out": tmp_path / "out"}
        result = fewbit.auto(digits, samples, labelled, "top1", self.target, recipes=["int8"], **options)
        assert result.path is None and result.document["chosen"] is None
        tried = {c["id"]: c["status"] for c in result.document["candidates"]}
        assert set(tried.values()) == {"measured"} and "int8@max" in tried
        assert not any(">" in name for name in tried)  # no layers go back to float

    @pytest.mark.parametrize(
        ("limit", "message"),
        [({"max_latency_ratio": 0.5}, "max-latency-ratio 0.5 cannot be kept to: nothing is timed for litert-micro")],
    )
    def test_a_limit_on_time_is_refused(
        self, digits: Path, samples: Path, tmp_path: Path, limit: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RecipeError, match=message):
            fewbit.auto(digits, samples, target=self.target, out=tmp_path / "out", **limit)
        assert not (tmp_path / "out").exists()

    def test_memory_is_that_of_activations(self, digits: Path, samples: Path, labelled: Path, tmp_path: Path) -> None:
        options: dict[str, Any] = {"max_drop": "5pt", "max_memory": "1kB", "out": tmp_path / "out"}
        result = fewbit.auto(digits, samples, labelled, "top1", self.target, recipes=["int8"], **options)
        assert result.path is None
        assert "bytes of memory, and at most 1000 are asked for" in result.document["candidates"][0]["reason"]


@pytest.mark.slow
def test_executorch_gets_weights_of_four_bits(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="executorch is not installed: pip install 'fewbit[executorch]'")
    b = Builder()
    x = b.node("Relu", [b.node("Gemm", ["x", b.weight(64, 128), b.weight(128)])])
    b.node("Gemm", [x, b.weight(128, 64), b.weight(64)], "y")
    model = b.save(tmp_path / "m.onnx", {"x": (1, 64)}, ["y"])
    given = tmp_path / "samples.npz"
    np.savez(given, x=np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32))
    out = tmp_path / "out"
    arguments: dict[str, Any] = {
        "objective": "size",
        "max_drop": "20pt",
        "recipes": ["int8", "int4-weights"],
        "out": out,
    }
    document = fewbit.auto(model, given, target="executorch-xnnpack", **arguments).document
    tried = {c["id"]: c for c in document["candidates"]}
    assert {c["status"] for c in tried.values()} == {"measured"}
    assert tried["int4-weights"]["bytes"] < 0.7 * tried["int8"]["bytes"]
    assert document["chosen"] in tried and {layer["form"] for layer in document["layers"]} & {"weight_only"}
    assert reproduce(out / "manifest.json", tmp_path / "again.pte").same
    again = fewbit.auto(
        model, given, target="executorch-xnnpack", resume=True, timeout=0.1, **arguments
    ).document  # no time for any work
    assert again["candidates"] == document["candidates"] and again["chosen"] == document["chosen"]
