"""The whole search on the demo network, in the real runtime."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import DataError, OutputError, RecipeError
from fewbit.flow.auto.manifest import reproduce
from fewbit.plan.plan import Plan

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def labelled(digits: Path) -> Path:
    return digits.with_name("evaluation.npz")


def test_the_best_of_the_ladder_is_chosen_and_certified(
    digits: Path, samples: Path, labelled: Path, tmp_path: Path
) -> None:
    seen: list[str] = []
    result = fewbit.auto(
        digits,
        samples,
        labelled,
        "top1",
        objective="size",
        max_drop="3pt",
        recipes=["int8", "fp16"],
        out=tmp_path / "out",
        changed=lambda document: seen.append(str(document["stage"])),
    )
    document = result.document
    assert document["chosen"] == "int8" and result.verdict == "pass"
    assert [c["status"] for c in document["candidates"]] == ["measured", "measured"]
    int8, fp16 = document["candidates"]
    assert int8["bytes"] < fp16["bytes"] and int8["smaller"] > 0.6
    assert int8["certified"] == "pass" and fp16["certified"] is None
    splits = document["splits"]
    assert splits == {"calibration": 128, "search": 179, "certification": 418, "seed": 0, "stratified": True}
    verdict = document["verdict"]
    assert verdict["samples"] == 418 and verdict["upper"] <= 0.03 and verdict["flips"]["changed"] < 0.05
    assert document["evaluations"] == pytest.approx((2 * 179 + 418) / 597)
    assert seen[0] == "looking at the samples" and seen[-1] == "done"
    # What is in the folder is the chosen one, and can be used.
    scored = fewbit.evaluate(result.path, labelled, "top1", baseline=digits)
    assert scored.lost is not None and scored.lost < 0.03
    assert Plan.load(str(tmp_path / "out" / "plan.json")).recipe == "int8"
    assert json.loads((tmp_path / "out" / "auto.json").read_text())["chosen"] == "int8"
    assert verdict["sentence"] in (tmp_path / "out" / "report.html").read_text()


def test_a_finished_search_is_read_and_not_done_again(
    digits: Path, samples: Path, labelled: Path, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"objective": "size", "recipes": ["fp16"], "out": tmp_path / "out"}
    first = fewbit.auto(digits, samples, labelled, "top1", **arguments)
    data = (tmp_path / "out" / "model.onnx").read_bytes()
    with pytest.raises(OutputError, match="is not empty: --resume goes on"):
        fewbit.auto(digits, samples, labelled, "top1", **arguments)
    again = fewbit.auto(
        digits, samples, labelled, "top1", resume=True, timeout=1.0, **arguments
    )  # no time for any work
    assert (tmp_path / "out" / "model.onnx").read_bytes() == data
    different = {"seconds", "command"}
    assert {k: v for k, v in again.document.items() if k not in different} == {
        k: v for k, v in first.document.items() if k not in different
    }
    with pytest.raises(RecipeError, match="is of another search: metric was top1, now top5"):
        fewbit.auto(digits, samples, labelled, "top5", resume=True, **arguments)


def test_the_manifest_makes_the_same_file_again(digits: Path, samples: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    fewbit.auto(digits, samples, labelled, "top1", objective="size", max_drop="3pt", recipes=["int8"], out=out)
    made = reproduce(out / "manifest.json", tmp_path / "again.onnx")
    assert made.same and (tmp_path / "again.onnx").read_bytes() == (out / "model.onnx").read_bytes()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["output"]["sha256"] == hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest()
    assert set(manifest["splits"]["calibration"]).isdisjoint(())
    other = tmp_path / "other.npz"
    np.savez(other, image=np.load(samples)["image"][::-1])
    with pytest.raises(fewbit.errors.VerificationError, match="the file that was made is another one"):
        reproduce(out / "manifest.json", tmp_path / "third.onnx", data=str(other))
    assert not (tmp_path / "third.onnx").exists()


def test_without_labels_agreement_with_float_counts(digits: Path, labelled: Path, tmp_path: Path) -> None:
    images = {"image": np.load(labelled)["image"]}
    result = fewbit.auto(digits, images, objective="size", max_drop="5pt", recipes=["int8"], out=tmp_path / "out")
    assert result.document["metric"]["name"] == "agreement" and result.document["metric"]["value"] == 1.0
    assert result.verdict == "pass"
    splits = result.document["splits"]
    assert splits["calibration"] == 128 and splits["search"] + splits["certification"] == 597 - 128


def test_too_small_a_size_leaves_nothing(digits: Path, samples: Path, labelled: Path, tmp_path: Path) -> None:
    result = fewbit.auto(
        digits, samples, labelled, "top1", max_size="5kB", recipes=["int8"], out=tmp_path / "out", objective="size"
    )
    assert result.path is None and result.document["chosen"] is None and result.verdict == "none"
    assert "at most 5000 are asked for" in result.document["candidates"][0]["reason"]
    assert not list((tmp_path / "out").glob("model.*"))
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": "speed"}, RecipeError, "objective 'speed' does not exist; use latency, size, energy"),
        ({"metric": None}, RecipeError, "give --metric"),
        ({"evaluation": None}, RecipeError, "--metric needs labelled samples: give --eval"),
        ({"data": None}, RecipeError, "a search needs samples"),
        ({"data": "synthetic"}, RecipeError, "a search needs real samples"),
        ({"max_drop": "much"}, RecipeError, "max-drop 'much' is no drop"),
        ({"budget": "soon"}, RecipeError, "'soon' is no duration"),
        ({"workers": 0}, RecipeError, "workers 0: give a number"),
        ({"confidence": 95}, RecipeError, "confidence 95 is not between"),
        ({"out": None}, RecipeError, "give out"),
        (
            {"recipes": ["int7"]},
            RecipeError,
            "no candidate could be measured; int7: building: recipe 'int7' does not exist",
        ),
    ],
)
def test_bad_requests(
    digits: Path,
    samples: Path,
    labelled: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    given = {
        "data": samples,
        "evaluation": labelled,
        "metric": "top1",
        "out": tmp_path / "out",
        "objective": "size",
        **changes,
    }
    with pytest.raises(error, match=message):
        fewbit.auto(digits, **given)


def test_samples_that_can_be_read_once_are_refused(digits: Path, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are an iterator, which can be read once"):
        fewbit.auto(digits, iter([{}]), labelled, "top1", out=tmp_path / "out")


def test_a_recipe_file_is_read_once(digits: Path, samples: Path, labelled: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: int8-weights\nrules: [{match: {op: Gemm}, compute: float}]\n")
    arguments: dict[str, Any] = {"objective": "size", "recipes": [str(recipe)], "out": tmp_path / "out"}
    first = fewbit.auto(digits, samples, labelled, "top1", **arguments)
    assert [c["id"] for c in first.document["candidates"]] == ["mine.yaml"]
    recipe.write_text("base: fp16\n")  # another recipe now, and another candidate
    again = fewbit.auto(digits, samples, labelled, "top1", resume=True, **arguments)
    assert again.document["candidates"][0]["bytes"] > 1.5 * first.document["candidates"][0]["bytes"]
