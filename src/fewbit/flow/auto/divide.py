"""Which samples serve for calibration, for the search and for the verdict. None serves for two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.data.check import Feed, InputInfo
from fewbit.data.leakage import Fingerprint, duplicates, fingerprints, overlap
from fewbit.data.source import open_source
from fewbit.data.split import split
from fewbit.errors import DataError
from fewbit.flow.auto.setup import Setup, Splits
from fewbit.measure.classes import classes_of
from fewbit.progress import Progress

SEARCH_SHARE = 0.3
"""Of the samples for evaluation. The verdict needs the most: its interval is what convinces; the search looks for what is
hopeless."""

MOST_FOR_SEARCH = 1000  # more tell candidates apart that do not differ
_LEAST = 10  # samples below which no part says anything
_LEAST_CALIBRATION = 8


@dataclass(frozen=True, slots=True)
class Divided:
    splits: Splits
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Set:
    """The samples of a source. distinct: positions of those that do not occur before."""

    prints: list[Fingerprint]
    labels: list[Any]
    distinct: list[int]

    def outside(self, *others: _Set) -> list[int]:
        """Positions of distinct samples that no other set holds, not even rounded."""
        shared = [overlap(self.prints, other.prints) for other in others]
        held = {i for found in shared for i, _ in (*found.exact, *found.near)}
        return [position for position in self.distinct if position not in held]


def divide(setup: Setup, inputs: Sequence[InputInfo], progress: Progress) -> Divided:
    """Divide the samples.

    Samples that occur twice count once. Samples for evaluation that are among those for calibration are left out there, if
    enough remain for calibration; else here, and a note says so.

    Raises:
        DataError: too few samples, or labels that are missing.
    """
    data = _read(setup.data, setup, inputs, "data", progress)
    notes = _repeated(data, "calibration")
    if setup.evaluation is None:
        return _of_one(setup, data, data, notes)
    judged = _read(setup.evaluation, setup, inputs, "evaluation", progress)
    notes += _repeated(judged, "evaluation")
    if setup.certification is None and not judged.outside(data):
        notes.append(
            "the samples for evaluation are all among those for calibration: they are divided, so that none serves for both"
        )
        return _of_one(setup, judged, data, notes)
    certified = None
    if setup.certification is not None:
        certified = _read(setup.certification, setup, inputs, "certification", progress)
        notes += _repeated(certified, "certification")
    calibration = data.outside(judged, *([certified] if certified else ()))
    leaked = len(data.distinct) - len(calibration)
    if leaked:
        notes.append(
            f"{leaked} samples for calibration are among those for evaluation: they are not used for calibration"
        )
    if len(calibration) < _LEAST_CALIBRATION:
        raise DataError(
            f"only {len(calibration)} samples for calibration are not among those for evaluation, and "
            f"{_LEAST_CALIBRATION} are needed: give others with --data"
        )
    training, calibration = calibration, calibration[: setup.calibration_limit]
    if certified is not None:
        return _with_own_verdict(judged, certified, (calibration, training), notes)
    positions = judged.distinct
    count = _search_count(len(positions))
    labels = [judged.labels[p] for p in positions]
    search, rest, classes = _parts(labels, len(positions), count, setup.seed)
    return Divided(
        Splits(tuple(calibration), _at(positions, search), _at(positions, rest), tuple(training), classes),
        notes,
    )


def _of_one(setup: Setup, samples: _Set, data: _Set, notes: list[str]) -> Divided:
    """All three parts of one set. data: the samples as `setup.data` gives them, which holds them all."""
    positions = samples.distinct
    calibration = min(setup.calibration_limit, len(positions) // 3)
    if calibration < _LEAST_CALIBRATION:
        raise DataError(
            f"{len(positions)} different samples are too few to calibrate, to search and to judge with: give "
            f"{3 * _LEAST_CALIBRATION} at least, or others with --eval"
        )
    labels = [samples.labels[p] for p in positions]
    chosen, rest, _ = _parts(labels, len(positions), calibration, setup.seed)
    left = _at(positions, rest)
    search, certification, classes = _parts(
        [samples.labels[p] for p in left], len(left), _search_count(len(left)), setup.seed + 1
    )
    used = _at(positions, chosen)
    if data is not samples:
        shared = overlap(samples.prints, data.prints)
        where = dict((*shared.near, *shared.exact))
        used = tuple(sorted(where[position] for position in used))
    return Divided(Splits(used, _at(left, search), _at(left, certification), used, classes), notes)


def _with_own_verdict(
    judged: _Set, certified: _Set, learning: tuple[Sequence[int], Sequence[int]], notes: list[str]
) -> Divided:
    search = judged.outside(certified)
    leaked = len(judged.distinct) - len(search)
    if leaked:
        notes.append(f"{leaked} samples for the search are among those for the verdict: the search does not use them")
    if len(search) < _LEAST:
        raise DataError(
            f"only {len(search)} samples of --eval are not among those of --certify, and {_LEAST} are needed"
        )
    return Divided(Splits(tuple(learning[0]), tuple(search), tuple(certified.distinct), tuple(learning[1])), notes)


def _read(source: Any, setup: Setup, inputs: Sequence[InputInfo], purpose: str, progress: Progress) -> _Set:
    opened = open_source(source, inputs=inputs, preprocess=setup.preprocess)
    labels: list[Any] = []

    def feeds() -> Iterator[Feed]:
        with progress.task(f"reading the samples for {purpose}", opened.count) as advance:
            for given, label in opened.items():
                labels.append(label)
                yield dict(given) if isinstance(given, Mapping) else {"": np.asarray(given)}
                advance(1)

    prints = fingerprints(feeds())
    again = duplicates(prints)
    repeated = {i for i, _ in (*again.exact, *again.near)}
    return _Set(prints, labels, [i for i in range(len(prints)) if i not in repeated])


def _repeated(samples: _Set, purpose: str) -> list[str]:
    extra = len(samples.prints) - len(samples.distinct)
    return [f"{extra} samples for {purpose} occur more than once: each counts once"] if extra else []


def _search_count(count: int) -> int:
    if count < 2 * _LEAST:
        raise DataError(
            f"{count} different samples are too few to search and to judge with: give {2 * _LEAST} at least for evaluation"
        )
    return max(_LEAST, min(MOST_FOR_SEARCH, round(SEARCH_SHARE * count)))


def _parts(labels: Sequence[Any], count: int, first: int, seed: int) -> tuple[Sequence[int], Sequence[int], int | None]:
    """Two parts of so many positions, and how many classes were kept in proportion."""
    parts = split(labels, count, (first / count, 1 - first / count), seed)
    kinds = classes_of(labels)
    return parts[0].tolist(), parts[1].tolist(), None if kinds is None else int(kinds.max()) + 1


def _at(positions: Sequence[int], chosen: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(int(positions[i]) for i in chosen))
