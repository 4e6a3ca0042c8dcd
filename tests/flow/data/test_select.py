"""Samples chosen for calibration, and written as a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit import demo
from fewbit.data import InputInfo, open_source
from fewbit.errors import DataError, ModelError, OutputError
from fewbit.flow.data import select, select_data
from tests.models import Builder

INPUTS = [InputInfo("x", np.dtype(np.float32), ("N", 4))]


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """y = x: what weights read is the input itself."""
    build = Builder()
    build.node("MatMul", ["x", build.constant(np.eye(4, dtype=np.float32))], "y")
    return build.save(tmp_path / "linear.onnx", {"x": ("N", 4)}, ["y"])


def grouped() -> np.ndarray[Any, Any]:
    """40 samples near 0, then 4 near each of (9, 0, 0, 0) and (0, -9, 0, 0)."""
    x = np.random.default_rng(0).normal(0, 0.1, (48, 4)).astype(np.float32)
    x[40:44, 0] += 9
    x[44:, 1] -= 9
    return x


def test_every_group_has_one(linear: Path, tmp_path: Path) -> None:
    x = grouped()
    found = select_data(linear, {"x": x}, tmp_path / "some.npz", 3)
    assert [p // 4 for p in found.positions if p >= 40] == [10, 11] and found.positions[0] < 40
    assert found.samples == 48 and found.classes is None and found.notes == []
    assert found.chosen.mean_distance < 0.1 < found.first.mean_distance
    assert found.chosen.largest_distance < found.first.largest_distance
    assert found.chosen.ranges > 0.9
    assert found.first.ranges < 0.1
    with np.load(found.path) as stored:
        assert (stored["x"] == x[list(found.positions)]).all() and stored.files == ["x"]


def test_the_file_is_a_source_with_labels(linear: Path, tmp_path: Path) -> None:
    """12 of one class and 36 of the other: of four, one and three."""
    labels = np.array([7] * 12 + [8] * 36)
    found = select_data(linear, {"x": grouped(), "labels": labels}, tmp_path / "some.npz", 4)
    assert found.classes == 2
    assert [int(s.label) for s in open_source(found.path, inputs=INPUTS)] == [7, 8, 8, 8]


def test_labels_that_are_no_classes_are_kept_all_the_same(linear: Path, tmp_path: Path) -> None:
    found = select_data(linear, {"x": grouped(), "labels": np.arange(48)}, tmp_path / "some.npz", 5)
    assert found.classes is None
    assert [int(s.label) for s in open_source(found.path, inputs=INPUTS)] == list(found.positions)


def test_the_same_again(tmp_path: Path) -> None:
    one, again = (select_data(demo.MODEL, demo.CALIBRATION, tmp_path / f"{i}.npz", 16) for i in range(2))
    assert one.positions == again.positions and len(set(one.positions)) == 16
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()


def test_more_samples_than_are_looked_at(linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "MOST", 20)
    one, again, other = (select_data(linear, {"x": grouped()}, tmp_path / "o.npz", 3, seed=s) for s in (1, 1, 2))
    assert one.notes == ["20 of 48 samples were looked at: the first 3, and others drawn with seed 1"]
    assert one.positions == again.positions and one.samples == 48
    assert one.positions != other.positions
    drawn = np.random.default_rng(2).choice(np.arange(3, 48), 17, replace=False)
    assert set(other.positions) <= {0, 1, 2, *drawn.tolist()}
    with np.load(other.path) as stored:
        assert (stored["x"] == grouped()[list(other.positions)]).all()


def test_a_source_that_does_not_say_how_many_it_has(linear: Path, tmp_path: Path) -> None:
    x = grouped()
    found = select_data(linear, lambda: ({"x": row[None]} for row in x), tmp_path / "o.npz", 3)
    assert found.samples == 48 and found.positions == select_data(linear, {"x": x}, tmp_path / "p.npz", 3).positions


def test_samples_of_different_shapes_go_to_a_folder(tmp_path: Path) -> None:
    build = Builder()
    build.node("MatMul", ["x", build.weight(4, 4)], "y")
    path = build.save(tmp_path / "m.onnx", {"x": ("N", "T", 4)}, ["y"])
    feeds = [({"x": np.full((1, 2 + i % 3, 4), i, np.float32)}, i % 2) for i in range(9)]
    with pytest.raises(
        DataError, match=r"input x has shape \[1, \d, 4\] and \[1, \d, 4\]: an .npz holds one row of one shape"
    ):
        select_data(path, feeds, tmp_path / "o.npz", 4)
    assert not (tmp_path / "o.npz").exists()
    found = select_data(path, feeds, tmp_path / "folder", 4)
    back = [*open_source(found.path, inputs=[InputInfo("x", np.dtype(np.float32), ("N", "T", 4))])]
    assert [int(s.feed["x"].flat[0]) for s in back] == list(found.positions)
    assert [int(s.label) for s in back] == [p % 2 for p in found.positions]


def test_a_fixed_batch(tmp_path: Path) -> None:
    """A model that takes two rows at once: a sample is two of them, in the file too."""
    build = Builder()
    build.node("MatMul", ["x", build.weight(4, 4)], "y")
    path = build.save(tmp_path / "m.onnx", {"x": (2, 4)}, ["y"])
    found = select_data(path, {"x": grouped(), "labels": np.arange(48)}, tmp_path / "o.npz", 3)
    assert found.samples == 24
    with np.load(found.path) as stored:
        assert stored["labels"].tolist() == [row for p in found.positions for row in (2 * p, 2 * p + 1)]
        assert (stored["x"] == grouped()[stored["labels"]]).all()


def test_refused(linear: Path, tmp_path: Path) -> None:
    x = {"x": grouped()}
    out = tmp_path / "o.npz"
    with pytest.raises(
        DataError, match="49 samples are to be chosen, and the samples given has 48: give more, or a lower -n"
    ):
        select_data(linear, x, out, 49)
    with pytest.raises(DataError, match="must be at least 1, given 0"):
        select_data(linear, x, out, 0)
    with pytest.raises(DataError, match="which can be read once"):
        select_data(linear, iter([{"x": grouped()[:1]}]), out, 1)
    with pytest.raises(OutputError, match=r"o\.npy must end with \.npz"):
        select_data(linear, x, tmp_path / "o.npy", 1)
    with pytest.raises(OutputError, match=r"the folder .*absent does not exist"):
        select_data(linear, x, tmp_path / "absent" / "o.npz", 1)
    with pytest.raises(OutputError, match="exists already: give a new folder"):
        select_data(linear, x, tmp_path, 1)
    build = Builder()
    build.node("Relu", ["x"], "y")
    bare = build.save(tmp_path / "m.onnx", {"x": ("N", 4)}, ["y"])
    with pytest.raises(ModelError, match="no layer with weights"):
        select_data(bare, x, out, 1)
    ragged = [({"x": row[None]}, np.zeros(i % 2 + 1)) for i, row in enumerate(grouped())]
    with pytest.raises(DataError, match="the labels have different shapes"):
        select_data(linear, ragged, out, 8)
    assert not out.exists()
