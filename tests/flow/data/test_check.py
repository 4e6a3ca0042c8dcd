"""What is wrong with samples, one fault at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit import demo
from fewbit.errors import DataError, RecipeError
from fewbit.flow.data import DataCheck, check_data
from tests.models import Builder, two_inputs

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def labelled() -> Arrays:
    """128 of the demo's images in real numbers, and their labels."""
    with np.load(demo.EVALUATION) as stored:
        return {"image": stored["image"][:128].astype(np.float32), "labels": stored["labels"][:128]}


def check(arrays: Mapping[str, Any], **options: Any) -> DataCheck:
    return check_data(demo.MODEL, dict(arrays), **options)


def test_good_samples(labelled: Arrays) -> None:
    found = check(labelled, evaluation=demo.CALIBRATION)
    assert found.warnings == [] and found.samples == 128 and found.evaluation_samples == 128
    (image,) = found.inputs
    assert (image.name, image.dtype, image.shape, image.given) == ("image", "float32", "[N, 1, 8, 8]", "float32")
    assert (image.low, image.high) == (0.0, 1.0)
    assert image.mean == pytest.approx(labelled["image"].mean(), rel=1e-5)
    assert image.std == pytest.approx(labelled["image"].std(), rel=1e-5)
    assert found.trained is not None and found.trained.value == "norm0" and found.trained.alike
    assert found.settled is not None and found.settled.samples == 128 and found.settled.activations == 8


def test_labels_and_classes(labelled: Arrays) -> None:
    found = check(labelled, metric="top1")
    assert found.warnings == []
    assert found.classes is not None
    assert sorted(found.classes.counts) == sorted(zip(*np.unique(labelled["labels"], return_counts=True), strict=True))


def test_labels_that_do_not_belong(labelled: Arrays) -> None:
    (told,) = check({**labelled, "labels": np.roll(labelled["labels"], 1)}, metric="top1").warnings
    assert told.startswith("metric top1 of the float model is 0.") and "the labels do not belong" in told


def test_labels_out_of_balance_or_range(labelled: Arrays) -> None:
    labels = np.zeros(128, np.int64)
    labels[:5] = 3
    told = check({**labelled, "labels": labels}).warnings
    assert "labels are out of balance: 123 samples of 0, 5 of 3; top1 says little of the rare ones" in told
    assert "labels have 2 of the model's 10 answers: the others are not seen" in told
    told = check({**labelled, "labels": labelled["labels"] + 1}).warnings
    assert "label 10 is none of the model's 10 answers, 0 to 9: check the labels" in told


def test_copies(labelled: Arrays) -> None:
    image = labelled["image"].copy()
    image[[5, 7]] = image[2]
    image[9] = image[3] * np.float32(1 + 1e-4)
    found = check({"image": image})
    assert found.duplicates.exact == ((5, 2), (7, 2)) and found.duplicates.near == ((9, 3),)
    assert [w.split(" (")[0] for w in found.warnings] == [
        "2 of 128 samples are copies of earlier ones",
        "1 of 128 samples but for rounding are copies of earlier ones",
    ]


def test_blank_samples(labelled: Arrays) -> None:
    image = labelled["image"].copy()
    image[4] = 0.5
    (told,) = check({"image": image}).warnings
    assert "input image holds a single value in 1 of 128 samples (positions 4)" in told


def test_leakage(labelled: Arrays) -> None:
    """Three are in both, one of them as the evaluation's float16 keeps it."""
    other = {
        "image": np.concatenate([labelled["image"][:3], np.random.default_rng(0).random((9, 1, 8, 8), np.float32)])
    }
    found = check(labelled, evaluation=other)
    assert found.leakage is not None and [i for i, _ in found.leakage.exact] == [0, 1, 2]
    assert found.warnings[0].startswith(
        "3 samples are among those for evaluation too (0 of them but for rounding; positions 0, 1, 2)"
    )


@pytest.mark.parametrize(
    ("change", "width"), [(lambda x: 255 * x, 257.0), (lambda x: 2 * x - 1, 1.98), (lambda x: x / 255, 0.0035)]
)
def test_values_unlike_those_in_training(labelled: Arrays, change: Any, width: float) -> None:
    found = check({"image": change(labelled["image"]).astype(np.float32)})
    assert found.trained is not None and found.trained.width == pytest.approx(width, rel=0.2)
    assert any(w.startswith("values are not as in training: at norm0 they vary") for w in found.warnings)


def test_ranges_that_have_not_settled(labelled: Arrays) -> None:
    """The second half is four times as wide."""
    image = labelled["image"].copy()
    image[64:] *= 4
    found = check({"image": image})
    assert found.settled is not None and found.settled.moved >= 6 and found.settled.worst[1] > 0.5
    assert any("ranges of activations still move by more than 10%" in w for w in found.warnings)


def test_one_sample(labelled: Arrays) -> None:
    found = check({"image": labelled["image"][:1]})
    assert found.settled is None and any(w.startswith("there is one sample") for w in found.warnings)


def test_a_state_that_is_always_zero_is_a_note_alone(tmp_path: Path) -> None:
    path = two_inputs().save(tmp_path / "m.onnx", {"x": ("N", 3, 8, 8), "z": ("N", 3, 8, 8)}, ["map", "shares"])
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    found = check_data(path, {"x": x, "z": np.zeros_like(x)})
    assert found.warnings == [] and found.notes == ["input z is 0 in every sample"]
    assert found.trained is None  # nothing is remembered


def test_a_model_without_weights(tmp_path: Path) -> None:
    build = Builder()
    build.node("Relu", ["x"], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", 4)}, ["y"])
    found = check_data(path, {"x": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)})
    assert found.settled is None and found.trained is None and found.warnings == []


def test_unusable(labelled: Arrays) -> None:
    image = labelled["image"].copy()
    image[[0, 8], 0, 0, 0] = np.nan
    with pytest.raises(
        DataError, match=r"2 of 128 samples of the data are unusable: sample 0, input 'image': 1 of 64 values"
    ):
        check({"image": image})
    with pytest.raises(DataError, match="2 of 128 samples of --eval are unusable: sample 0"):
        check(labelled, evaluation={"image": image})
    with pytest.raises(DataError, match="sample 0 lacks input 'image'; the model takes image float32"):
        check({"picture": np.zeros((128, 3), np.float32)})
    with pytest.raises(DataError, match=r"takes shape \[N, 1, 8, 8\], given \[1, 1, 8, 9\]"):
        check({"image": np.zeros((2, 1, 8, 9), np.float32)})
    with pytest.raises(DataError, match="which can be read once"):
        check_data(demo.MODEL, iter([{"image": image[:1]}]))


def test_wrong_metric(labelled: Arrays) -> None:
    with pytest.raises(RecipeError, match="metric agreement needs no labels"):
        check(labelled, metric="agreement")
    with pytest.raises(RecipeError, match="metric top1 needs a label with every sample"):
        check({"image": labelled["image"]}, metric="top1")
