"""A file is compared with its plan from one rounding of floats to the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import fewbit
from fewbit.data import DataSource, open_source
from fewbit.flow import verification
from fewbit.flow.calibrate import EFFORTS, Calibrator
from fewbit.flow.common import hub_inputs, target_for
from fewbit.flow.formats import FORMATS, Details
from fewbit.flow.step_by_step import compare_step_by_step
from fewbit.formats.onnx.roundings import rounded_floats, with_given
from fewbit.graph.load import load
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.progress import SILENT
from fewbit.runtimes.table import LITERT, open_model
from tests.models import Builder

SIZES = (1, 8, 12, 12)
FORMAT = FORMATS["litert"]
FLOAT = ["*_1", "*_2", "*_3", "*_5"]


def mixed(path: Path) -> tuple[Calibrator, Plan, DataSource]:
    """A convolution and a sigmoid that compute in float between two integer convolutions, and a sigmoid at the end."""
    b = Builder(3)
    x = b.node("Conv", ["x", b.weight(16, 8, 3, 3), b.weight(16)])
    x = b.node("Conv", [x, b.weight(16, 16, 3, 3), b.weight(16)], "between")
    x = b.node("Mul", [x, b.node("Sigmoid", [x])])
    b.node("Sigmoid", [b.node("Conv", [x, b.weight(4, 16, 1, 1), b.weight(4)])], "y")
    hub = load(b.save(path / "m.onnx", {"x": SIZES}, ["y"]))
    samples = np.random.default_rng(0).standard_normal((6, *SIZES)).astype(np.float32)
    source = open_source([{"x": x} for x in samples], inputs=hub_inputs(hub))
    job = Calibrator(hub, target_for("litert-cpu"), 1, SILENT, EFFORTS["fast"], source)
    return job, job.plan(Recipe.get("int8").excluding(FLOAT)), source


def test_floats_are_given_and_compared(tmp_path: Path) -> None:
    job, plan, source = mixed(tmp_path)
    lowered, path = job.lower(plan), tmp_path / "m.tflite"
    (name,) = (name for name in rounded_floats(lowered) if not name.startswith("x"))
    FORMAT.write(lowered, path, Details())
    feeds = list(source.feeds())
    found = compare_step_by_step(FORMAT, LITERT, lowered, path, feeds, Details(), open_model(path))
    assert [comparison.name for comparison in found] == ["y", name]
    assert min(comparison.sqnr for comparison in found) > 110.0
    assert [p.name for p in tmp_path.glob("*.tflite")] == ["m.tflite"]


def test_what_is_given_decides(tmp_path: Path) -> None:
    job, plan, source = mixed(tmp_path)
    lowered = job.lower(plan)
    names = rounded_floats(lowered)
    given = FORMAT.session(with_given(lowered, names))
    assert given.inputs == ["x", *names] and given.outputs[0] == "y" and len(given.outputs) == 1 + len(names)
    feed = next(iter(source.feeds()))
    floats = given.run({**feed, **{name: np.zeros((1, 16, 8, 8), np.float32) for name in names}})[1:]
    meant = FORMAT.session(lowered).run(feed)[0]
    np.testing.assert_array_equal(given.run({**feed, **dict(zip(names, floats, strict=True))})[0], meant)
    assert np.ptp(given.run({**feed, **{name: 0 * a for name, a in zip(names, floats, strict=True)}})[0][0, 0]) == 0


def test_a_file_with_another_weight_is_told(tmp_path: Path) -> None:
    """Of a layer that computes with integers, and of one in float."""
    job, plan, source = mixed(tmp_path)
    feeds, path = list(source.feeds()), tmp_path / "m.tflite"
    for node in ("Conv_0", "Conv_4"):
        bias = np.zeros(16 if node == "Conv_0" else 4, np.float32)
        bias[0] = 1.0
        wrong = replace(plan, biases={**plan.biases, node: bias})
        FORMAT.write(FORMAT.lower(job.original, wrong), path, Details())
        found = compare_step_by_step(FORMAT, LITERT, job.lower(plan), path, feeds, Details(), open_model(path))
        assert found[0].sqnr < 40.0


def test_it_is_done_where_outputs_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, source = mixed(tmp_path)
    options = {"out": tmp_path / "q.tflite", "effort": "fast", "exclude": FLOAT}
    result = fewbit.quantize(tmp_path / "m.onnx", list(source.feeds()), **options)
    assert not result.verification.steps
    monkeypatch.setattr(verification, "STEPS_BELOW", 1000.0)
    result = fewbit.quantize(tmp_path / "m.onnx", list(source.feeds()), **options)
    steps = result.verification.to_dict()["steps"]
    assert len(steps) == 2 and all(step["sqnr_db"] > 110.0 for step in steps)


AGREES = {"cifar10_cct": 60.0, "stsb_minilm_l3": 45.0, "llm_stories260k": 45.0}


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.parametrize("case", [*AGREES, "coco_yolox_nano"])
def test_real_models(zoo: ModuleType, case: str, tmp_path: Path) -> None:
    """Transformers agree from end to end; one with float layers between integers from step to step."""
    source = f'{Path(zoo.__file__)}:calibration("{case}")'
    result = fewbit.quantize(zoo.load(case).model, data=source, recipe="int8", out=tmp_path / "int8.tflite", limit=32)
    seen = result.verification
    compared = seen.simulation if case in AGREES else seen.steps
    assert compared and min(output.sqnr for output in compared) > AGREES.get(case, 100.0)
