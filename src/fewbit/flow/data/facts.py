"""What is known of samples before any model runs on them: one pass, a few kilobytes a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data import DataSource, InputInfo
from fewbit.data.check import Feed
from fewbit.data.leakage import Fingerprint, fingerprints
from fewbit.errors import DataError
from fewbit.measure.classes import classes_of
from fewbit.measure.compare import finite_or_none


@dataclass(frozen=True, slots=True)
class InputFacts:
    """One input over all samples: the least and greatest value, mean and standard deviation of all values, and the positions
    of the samples that hold one value alone."""

    name: str
    dtype: str
    shape: str
    given: str
    low: float
    high: float
    mean: float
    std: float
    constant: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "given_dtype": self.given,
            "low": finite_or_none(self.low),
            "high": finite_or_none(self.high),
            "mean": finite_or_none(self.mean),
            "std": finite_or_none(self.std),
            "constant": list(self.constant),
        }


@dataclass(frozen=True, slots=True)
class Classes:
    """Labels that are classes: how many samples each has, the most frequent first."""

    counts: tuple[tuple[Any, int], ...]

    @property
    def ratio(self) -> float:
        """The most frequent over the rarest."""
        return self.counts[0][1] / self.counts[-1][1]

    def to_dict(self) -> dict[str, Any]:
        return {
            "count": len(self.counts),
            "ratio": self.ratio,
            "samples": [{"label": label, "count": count} for label, count in self.counts],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Samples that all fit the model. labels: None where a sample has none."""

    count: int
    inputs: tuple[InputFacts, ...]
    prints: tuple[Fingerprint, ...]
    labels: tuple[Any, ...]

    def classes(self) -> Classes | None:
        """None where labels are missing, or no classes."""
        if any(label is None for label in self.labels) or classes_of(self.labels) is None:
            return None
        counts = Counter(np.asarray(label).reshape(-1)[0].item() for label in self.labels)
        return Classes(tuple(sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))))


def facts_of(source: DataSource, inputs: list[InputInfo], what: str) -> Facts:
    """Look at every sample once.

    Raises:
        DataError: some do not fit the model or hold values that are no numbers: how many, and what is wrong with the first.
    """
    seen = {info.name: _Seen() for info in inputs}
    labels: list[Any] = []
    refused: list[DataError] = []

    def usable() -> Iterator[Feed]:
        for index, (given, label) in enumerate(source.items()):
            labels.append(label)
            try:
                feed = source.checked(given, index)
            except DataError as error:
                refused.append(error)
                continue
            for name, array in feed.items():
                raw = given.get(name) if isinstance(given, dict) else given
                seen[name].update(index, array, np.asarray(array if raw is None else raw).dtype)
            yield feed

    prints = fingerprints(usable())
    if refused:
        raise DataError(f"{len(refused)} of {len(labels)} samples of {what} are unusable: {refused[0]}")
    described = tuple(
        InputFacts(
            info.name,
            str(info.dtype or "any"),
            str(info).removeprefix(f"{info.name} {info.dtype or 'any dtype'} "),
            ", ".join(sorted(seen[info.name].dtypes)),
            *seen[info.name].moments(),
            tuple(seen[info.name].constant),
        )
        for info in inputs
    )
    return Facts(len(labels), described, tuple(prints), tuple(labels))


class _Seen:
    """Sums over one input while samples stream by."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.dtypes: set[str] = set()
        self.constant: list[int] = []

    def update(self, index: int, array: NDArray[Any], given: np.dtype[Any]) -> None:
        self.dtypes.add(str(given))
        if not array.size or array.dtype.kind not in "biuf":
            return
        low, high = float(array.min()), float(array.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        values = array.astype(np.float64)
        self.count += array.size
        self.total += float(values.sum())
        self.squares += float((values * values).sum())
        if array.size > 1 and low == high:
            self.constant.append(index)

    def moments(self) -> tuple[float, float, float, float]:
        """(low, high, mean, standard deviation); NaN where there were no numbers."""
        if not self.count:
            return (float("nan"),) * 4
        mean = self.total / self.count
        return self.low, self.high, mean, float(np.sqrt(max(self.squares / self.count - mean**2, 0.0)))
