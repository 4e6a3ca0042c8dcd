from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.data.check import InputInfo
from fewbit.errors import DataError
from fewbit.flow.auto.divide import divide
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.progress import SILENT

INPUTS = [InputInfo("x", np.dtype(np.float32), (None, 4))]


def samples(count: int, seed: int, labels: Any = None) -> dict[str, Any]:
    made = {"x": np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)}
    return made if labels is None else {**made, "labels": np.asarray(labels)}


def divided(data: Any, evaluation: Any = None, certification: Any = None, limit: int = 16) -> tuple[Splits, list[str]]:
    setup = Setup("model", data, evaluation, certification, "top1", None, "ort-cpu", 0, 0.95, limit)
    found = divide(setup, INPUTS, SILENT)
    return found.splits, list(found.notes)


def test_parts_share_nothing_and_classes_keep_their_shares() -> None:
    splits, notes = divided(samples(40, 0), samples(200, 1, [i % 4 for i in range(200)]))
    assert (len(splits.calibration), len(splits.training), len(splits.search), len(splits.certification)) == (
        16,
        40,
        60,
        140,
    )
    assert set(splits.search).isdisjoint(splits.certification)
    assert splits.label_count == 4 and notes == []
    assert np.bincount(np.array(splits.search) % 4).tolist() == [15, 15, 15, 15]
    assert list(splits.search) == sorted(splits.search)
    assert splits == divided(samples(40, 0), samples(200, 1, [i % 4 for i in range(200)]))[0]


def test_a_search_needs_no_more_than_a_thousand() -> None:
    splits, _ = divided(samples(40, 0), samples(5000, 1))
    assert len(splits.search) == 1000 and len(splits.certification) == 4000


def test_leaks_are_left_out_of_calibration_also_where_they_were_rounded() -> None:
    data, judged = samples(60, 0), samples(100, 1)
    data["x"][5:15] = judged["x"][:10]
    data["x"][20] = judged["x"][50].astype(np.float16)
    splits, notes = divided(data, judged, limit=128)
    assert set(splits.calibration) == set(range(60)) - set(range(5, 15)) - {20}
    assert notes[0].startswith("11 samples for calibration are among those for evaluation")


def test_too_few_are_left_for_calibration() -> None:
    judged = samples(100, 1)
    data = {"x": np.concatenate([judged["x"][:50], samples(3, 2)["x"]])}
    with pytest.raises(DataError, match=r"only 3 samples for calibration .* and 8 are needed"):
        divided(data, judged)


def test_one_set_for_everything() -> None:
    whole = samples(90, 0)
    splits, notes = divided(whole, limit=128)
    assert (len(splits.calibration), len(splits.search), len(splits.certification)) == (30, 18, 42)
    assert len({*splits.calibration, *splits.search, *splits.certification}) == 90 and notes == []
    shuffled = {"x": whole["x"][::-1].copy()}  # the same samples under other positions
    splits, notes = divided(shuffled, whole, limit=128)
    used = {89 - position for position in splits.calibration}
    assert used.isdisjoint(splits.search) and used.isdisjoint(splits.certification)
    assert "none serves for both" in notes[0]


def test_samples_of_their_own_for_the_verdict() -> None:
    judged, kept = samples(80, 1), samples(50, 2)
    judged["x"][:5] = kept["x"][:5]
    splits, notes = divided(samples(40, 0), judged, kept)
    assert splits.search == tuple(range(5, 80)) and splits.certification == tuple(range(50))
    assert "5 samples for the search are among those for the verdict" in notes[0]


@pytest.mark.parametrize(
    ("data", "evaluation", "message"),
    [
        (samples(40, 0), samples(15, 1), r"15 different samples are too few .* give 20 at least for evaluation"),
        (samples(20, 0), None, r"20 different samples are too few .* give 24 at least"),
    ],
)
def test_too_few(data: Any, evaluation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        divided(data, evaluation)
