"""What goes wrong in practice, and must not go unnoticed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import DataError
from fewbit.runtimes.onnxruntime import open_session

METRICS = Path(__file__).with_name("metrics_with_traps.py")


@pytest.fixture
def labelled(digits: Path) -> dict[str, Any]:
    with np.load(digits.with_name("evaluation.npz")) as stored:
        return dict(stored)


def search(model: Path, data: Any, evaluation: Any, metric: Any, out: Path, **options: Any) -> Any:
    options = {"objective": "size", "recipes": ["fp16"], "max_drop": "3pt", **options}
    return fewbit.auto(model, data, evaluation, metric, out=out, **options)


def test_samples_for_calibration_in_the_evaluation(digits: Path, labelled: dict[str, Any], tmp_path: Path) -> None:
    calibration = np.load(digits.with_name("calibration.npz"))["image"]
    leaking = {
        "image": np.concatenate([labelled["image"], calibration[:40], labelled["image"][:5]]),
        "labels": np.concatenate([labelled["labels"], np.zeros(40, int), labelled["labels"][:5]]),
    }
    result = search(digits, {"image": calibration}, leaking, "top1", tmp_path / "out")
    notes = " ".join(result.document["notes"])
    assert "40 samples for calibration are among those for evaluation" in notes
    assert "5 samples for evaluation occur more than once: each counts once" in notes
    assert result.document["splits"]["search"] + result.document["splits"]["certification"] == 597 + 40


def test_the_same_samples_for_everything_are_divided(digits: Path, labelled: dict[str, Any], tmp_path: Path) -> None:
    result = search(digits, {"image": labelled["image"]}, labelled, "top1", tmp_path / "out")
    splits = result.document["splits"]
    assert splits["calibration"] == 128
    assert splits["calibration"] + splits["search"] + splits["certification"] == 597
    assert "none serves for both" in " ".join(result.document["notes"])


def test_shuffled_labels(digits: Path, samples: Path, labelled: dict[str, Any], tmp_path: Path) -> None:
    labels = np.random.default_rng(0).permutation(labelled["labels"])
    with pytest.raises(DataError, match=r"with the labels shuffled .* the labels do not belong to the samples"):
        search(digits, samples, {**labelled, "labels": labels}, "top1", tmp_path / "out")


def test_few_samples_and_a_narrow_limit_decide_nothing(
    digits: Path, samples: Path, labelled: dict[str, Any], tmp_path: Path
) -> None:
    few = {name: array[:50] for name, array in labelled.items()}
    result = search(digits, samples, few, "top1", tmp_path / "out", max_drop="0.1pt")
    assert result.verdict == "undecided" and result.path is not None
    assert result.document["verdict"]["needed"] > 1000
    assert "samples would decide" in result.document["verdict"]["sentence"]
    strict = search(digits, samples, few, "top1", tmp_path / "strict", max_drop="0.1pt", strict=True)
    assert strict.document["chosen"] == "float"  # nothing else is proved


def test_a_metric_that_is_not_a_number(digits: Path, samples: Path, labelled: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a number on these 179 samples"):
        search(digits, samples, labelled, f"{METRICS}:nothing", tmp_path / "out")


def test_a_metric_whose_direction_is_not_told(
    digits: Path, samples: Path, labelled: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="give the callable the attribute higher_is_better = False"):
        search(digits, samples, labelled, f"{METRICS}:error_rate", tmp_path / "out")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("crash", "scoring: its process was killed by SIGABRT"),
        ("hang", "scoring: it hung: stopped after 25 s"),
        ("nan", "scoring: metric .* is not a number"),
    ],
)
def test_a_candidate_that_breaks_the_evaluation(
    digits: Path, samples: Path, labelled: dict[str, Any], tmp_path: Path, what: str, reason: str
) -> None:
    session = open_session(digits)
    outputs = np.concatenate([session.run({"image": x[None].astype(np.float32)})[0] for x in labelled["image"]])
    np.savez(tmp_path / "known.npz", labels=labelled["labels"], outputs=outputs)
    by_position = {"image": labelled["image"], "labels": np.arange(len(outputs))}
    metric = f'{METRICS}:far_from_float("{what}", "{tmp_path}/known.npz")'
    result = search(
        digits,
        samples,
        by_position,
        metric,
        tmp_path / "out",
        recipes=["int8", "fp16"],
        timeout="25s" if what == "hang" else None,
    )
    int8, fp16 = result.document["candidates"]
    assert int8["status"] == "failed"
    assert re.search(reason, int8["reason"])
    assert fp16["status"] == "measured" and result.document["chosen"] == "fp16"
