"""Samples in .npz files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data.check import InputInfo
from fewbit.errors import DataError

LABELS = "labels"


def open_npz(path: Path) -> tuple[dict[str, NDArray[Any]], int]:
    """The arrays of a file and how many samples they hold.

    Raises:
        DataError: not an .npz, pickled objects inside, no arrays, or arrays with different numbers of samples.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise DataError(f"{path} holds Python objects or is damaged ({error}); save plain arrays") from error
    if not any(name != LABELS for name in arrays):
        raise DataError(f"{path} holds no arrays; it needs one for each model input, samples on axis 0")
    return arrays, _count(arrays, str(path))


def rows(arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo]) -> Iterator[tuple[dict[str, Any], Any]]:
    """One sample after another. A model with a fixed batch of B takes B samples at once; a remainder is left out."""
    count, batch = _count(arrays, "the samples"), batch_of(inputs)
    if 0 < count < batch:
        raise DataError(f"the model takes batches of {batch} samples, and there are {count}")
    for start in range(0, count - batch + 1, batch):
        part = slice(start, start + batch)
        feed = {name: array[part] for name, array in arrays.items() if name != LABELS}
        labels = arrays.get(LABELS)
        yield feed, None if labels is None else labels[start] if batch == 1 else labels[part]


def batch_of(inputs: Sequence[InputInfo]) -> int:
    """How many rows a feed takes: the fixed first axis of all inputs that have one, else 1."""
    sizes = {info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)}
    return sizes.pop() if len(sizes) == 1 else 1


def numbered_files(folder: Path) -> list[Path]:
    """The .npz files of a folder in the order of the numbers in their names."""
    return sorted(folder.glob("*.npz"), key=lambda p: ([int(n) for n in re.findall(r"\d+", p.stem)], p.stem))


def read_files(files: Sequence[Path], inputs: Sequence[InputInfo]) -> Iterator[tuple[dict[str, Any], Any]]:
    """One feed a file, as it is stored."""
    for path in files:
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                feed = {name: stored[name] for name in stored.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as .npz: {' '.join(str(error).split())}") from error
        yield feed, feed.pop(LABELS, None)


def _count(arrays: Mapping[str, NDArray[Any]], where: str) -> int:
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"the arrays of {where} hold different numbers of samples: {counts}")
    return next(iter(counts.values()), 0)
