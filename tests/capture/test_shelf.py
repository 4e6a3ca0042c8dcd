"""Arrays come back as they were put, from memory and from disk, and nothing is left behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from fewbit.capture.shelf import Shelf
from fewbit.errors import OutputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("memory", [0, 100, 1 << 20])
def test_arrays_come_back(folder: Path, memory: int) -> None:
    random = np.random.default_rng(0)
    shapes = [(3, 4), (2, 5), (), (0, 3)]
    arrays = [np.asarray(random.standard_normal(shape), np.float32) for shape in shapes] + [np.arange(7)[::2]]
    shelf = Shelf(memory)
    for index, array in enumerate(arrays):
        shelf.put("a", index, array)
        shelf.put("b", index, array + 1)
    for index, array in enumerate(arrays):
        for name, wanted in (("a", array), ("b", array + 1)):
            given = shelf.get(name, index)
            assert given.dtype == wanted.dtype and given.shape == wanted.shape
            np.testing.assert_array_equal(given, wanted)
    assert shelf.in_memory <= memory
    assert shelf.in_memory + shelf.on_disk == 2 * sum(array.nbytes for array in arrays)
    shelf.close()
    assert list(folder.iterdir()) == []


def test_a_file_goes_with_its_last_array(folder: Path) -> None:
    shelf = Shelf(0)
    for sample in range(2):
        shelf.put("a", sample, np.ones(10))
    (inner,) = folder.iterdir()
    shelf.discard("a", 0)
    assert len(list(inner.iterdir())) == 1 and "a" in shelf
    np.testing.assert_array_equal(shelf.get("a", 1), np.ones(10))
    shelf.discard("a", 1)
    shelf.discard("a", 1)
    assert list(inner.iterdir()) == [] and "a" not in shelf and shelf.on_disk == 0
    shelf.close()


def test_memory_is_given_back(folder: Path) -> None:
    shelf = Shelf(80)
    shelf.put("a", 0, np.ones(10))
    shelf.discard("a", 0)
    shelf.put("b", 0, np.ones(10))
    assert shelf.on_disk == 0 and list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "missing"))
    with pytest.raises(OutputError, match="TMPDIR"):
        Shelf(0).put("a", 0, np.ones(10))
