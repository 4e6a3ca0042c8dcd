from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fewbit
from fewbit.errors import PlanError
from fewbit.plan.plan import Plan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from fewbit import demo

    folder = tmp_path_factory.mktemp("plan")
    result = fewbit.quantize(demo.MODEL, demo.CALIBRATION, out=folder / "first.onnx")
    result.plan.save(str(folder / "plan.json"))
    return folder / "plan.json", folder / "first.onnx"


def test_a_saved_plan_makes_the_same_file(made: tuple[Path, Path], digits: Path, tmp_path: Path) -> None:
    plan, first = made
    fewbit.quantize(digits, plan=plan, out=tmp_path / "again.onnx", verify=False)
    assert (tmp_path / "again.onnx").read_bytes() == first.read_bytes()


def test_an_edited_plan_is_used_as_it_is(made: tuple[Path, Path], digits: Path) -> None:
    document = json.loads(made[0].read_text())
    site = next(s for s in document["sites"] if s["name"] == "image")
    site["scale"] *= 2
    edited = made[0].with_name("edited.json")
    edited.write_text(json.dumps(document))
    result = fewbit.quantize(digits, plan=edited, verify=False)
    assert float(result.plan.sites["image"].params.scale) == np.float32(site["scale"])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d.update(schema_version=99), "schema_version 99"),
        (lambda d: d["sites"][0].update(scale=-1.0), "positive"),
        (lambda d: d["sites"][0].update(zero_point=300), "0..255"),
        (lambda d: d["nodes"][0].update(form="fast"), "'fast'"),
        (lambda d: d["sites"][0].pop("kind"), "kind"),
        (lambda d: d.pop("sites"), "not a plan"),
    ],
)
def test_wrong_plans_are_refused(made: tuple[Path, Path], edit: object, says: str) -> None:
    document = json.loads(made[0].read_text())
    edit(document)  # type: ignore[operator]
    wrong = made[0].with_name("wrong.json")
    wrong.write_text(json.dumps(document))
    with pytest.raises(PlanError, match=says):
        Plan.load(str(wrong))


def test_changed_or_missing_arrays_are_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    arrays = json.loads(made[0].read_text())["arrays"]
    copy = tmp_path / "plan.json"
    copy.write_text(made[0].read_text())
    with pytest.raises(PlanError, match="keep the two files together"):
        Plan.load(str(copy))
    data = bytearray(made[0].with_name(arrays).read_bytes())
    data[-1] ^= 1
    (tmp_path / arrays).write_bytes(bytes(data))
    with pytest.raises(PlanError, match="changed"):
        Plan.load(str(copy))


def test_codebooks_and_float8_are_kept(digits: Path, tmp_path: Path) -> None:
    rules = [
        {"compute": "storage", "weight": {"dtype": "uint3", "codebook": "kmeans", "granularity": "group"}},
        {"match": {"op": "Gemm"}, "weight": {"dtype": "float8e5m2"}},
    ]
    first = fewbit.quantize(digits, recipe={"rules": rules}, out=tmp_path / "first.onnx", verify=False)
    first.plan.save(str(tmp_path / "plan.json"))
    fewbit.quantize(digits, plan=tmp_path / "plan.json", out=tmp_path / "again.onnx", verify=False)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()
    kept = Plan.load(str(tmp_path / "plan.json"))
    specs = {str(s.spec.dtype): s for s in kept.constants().values() if s.spec is not None}
    book, fp8 = specs["uint3"], specs["float8e5m2"]
    assert book.spec is not None and book.spec.codebook == "kmeans"
    assert book.params is not None and book.params.table is not None and book.params.table.shape == (8,)
    assert fp8.params is not None and fp8.params.table is None
    document = json.loads((tmp_path / "plan.json").read_text())
    site = next(s for s in document["sites"] if s.get("codebook"))
    assert "zero_point" not in site
    site["table"] = [1.0, 0.0]
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    with pytest.raises(PlanError, match="ascending"):
        Plan.load(str(tmp_path / "wrong.json"))
