"""Samples and what they are to give, kept for many passes: in memory up to a limit and beyond it on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbit.capture.shelf import Shelf
from fewbit.errors import DataError
from fewbit.graph.hub import Hub

Batch = tuple[dict[str, Tensor], list[Any]]
"""Values by name, stacked along the first axis, and the labels of the samples."""


class Samples:
    """Values of samples by name, read in batches.

    stacked: whether samples may be joined along the first axis. Otherwise a batch is read as single samples, whose gradients
        add up to that of the batch.
    power: the mean square of the values of some names, over all samples.
    """

    def __init__(self, memory: int, *, stacked: bool) -> None:
        self.stacked = stacked
        self.labels: list[Any] = []
        self.power: dict[str, float] = {}
        self._shelf = Shelf(memory)
        self._digest = hashlib.sha256()

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, values: Mapping[str, NDArray[Any]], label: Any = None) -> None:
        """Keep one sample.

        Raises:
            OutputError: the temporary folder is full.
        """
        for name, array in values.items():
            self._shelf.put(name, len(self.labels), array)
            self._digest.update(f"{len(self.labels)} {name} {array.dtype} {array.shape}".encode())
            self._digest.update(np.ascontiguousarray(array).data)
        self.labels.append(label)

    def fingerprint(self) -> str:
        """A hash of the values that were added."""
        return self._digest.hexdigest()

    def set(self, name: str, index: int, array: NDArray[Any]) -> None:
        """Keep a further value of a sample, or another in its place."""
        self._shelf.discard(name, index)
        self._shelf.put(name, index, array)

    def drop(self, names: Iterable[str]) -> None:
        """Let go of values."""
        for name in names:
            for index in range(len(self)):
                self._shelf.discard(name, index)

    def read(self, names: Sequence[str], indices: Sequence[int], device: torch.device | None = None) -> Batch:
        """Some values of some samples."""
        values = {}
        for name in names:
            rows = [self._shelf.get(name, i) for i in indices]
            values[name] = torch.from_numpy(rows[0].copy() if len(rows) == 1 else np.concatenate(rows)).to(device)
        return values, [self.labels[i] for i in indices]

    def parts(self, indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
        """The indices in parts that can be read at once, of at most `size`."""
        size = size if self.stacked else 1
        return (indices[i : i + size] for i in range(0, len(indices), size))

    def check(self) -> None:
        """Samples that differ in size, or hold several, are not joined."""
        for name in self._shelf.names() if self.stacked else ():
            shapes = {self._shelf.get(name, i).shape for i in range(len(self))}
            if len({shape[1:] for shape in shapes}) > 1 or any(shape[0] != 1 for shape in shapes):
                self.stacked = False
                return

    def close(self) -> None:
        self._shelf.close()


def stackable(hub: Hub) -> bool:
    """Whether the first axis of every input and output is of any size, so that samples can be joined along it.

    Outputs count too: a fixed first axis there means that the graph makes something else of the inputs' one.
    """
    shapes = [info.shape for info in (*hub.inputs, *hub.outputs)]
    return all(shape and not isinstance(shape[0], int) for shape in shapes)


def split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and indices held back, drawn by the seed; one sample at least is held back.

    Raises:
        DataError: fewer than 2 samples.
    """
    if count < 2:
        raise DataError(f"training needs at least 2 samples, one of them held back to judge by; {count} were given")
    order = np.random.default_rng(seed).permutation(count).tolist()
    held = max(1, round(count * share))
    return sorted(order[held:]), sorted(order[:held])
