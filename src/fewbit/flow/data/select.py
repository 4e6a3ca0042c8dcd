"""Samples for calibration that stand for all others, by what the float model makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.pooled import pooled
from fewbit.data import InputInfo, Sample
from fewbit.data.npz import LABELS, batch_of
from fewbit.data.selection import distances_to, k_center, standardized
from fewbit.data.source import Selected
from fewbit.errors import DataError, ModelError, OutputError
from fewbit.flow.common import hub_inputs
from fewbit.flow.data.ranges import read_values
from fewbit.flow.faces import samples_in_layout
from fewbit.flow.opening import ImportOptions, load, open_models
from fewbit.graph.atomic import atomic_files
from fewbit.graph.hub import Hub
from fewbit.measure.classes import classes_of
from fewbit.progress import SILENT, Progress

_SITES = 4  # from the first to the last layer: neighbours show much the same

MOST = 4096
"""Samples that are looked at: at up to 100 kB each (4 activations of 1000 channels) they take 400 MB."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well some samples stand for all.

    mean_distance, largest_distance: from every sample to the nearest of them, where all lie 1 from their centre (root mean
    square). ranges: share of the activations' ranges that they reach, mean over activations.
    """

    mean_distance: float
    largest_distance: float
    ranges: float

    def to_dict(self) -> dict[str, float]:
        return {
            "mean_distance": self.mean_distance,
            "largest_distance": self.largest_distance,
            "ranges": self.ranges,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples that were chosen, by their positions in the source, and how they cover it beside as many first ones.

    classes: how many the samples have, by which they were shared out; None without labels that are classes.
    """

    path: Path
    source: str
    samples: int
    positions: Sequence[int]
    classes: int | None
    chosen: Coverage
    first: Coverage
    notes: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "source": self.source,
            "samples": self.samples,
            "positions": list(self.positions),
            "classes": self.classes,
            "chosen": self.chosen.to_dict(),
            "first": self.first.to_dict(),
            "notes": list(self.notes),
        }


def select_data(
    model: str | Path | Any,
    data: Any,
    out: str | Path,
    count: int,
    *,
    preprocess: str | None = None,
    seed: int = 0,
    importing: ImportOptions = ImportOptions(),  # noqa: B008  (frozen)
    progress: Progress = SILENT,
) -> Selection:
    """Choose samples for calibration, and write them as a source that `data` takes.

    A sample is described by the least, greatest and mean value of every channel of up to four activations that weights read,
    from the first layer to the last. Where labels are classes, each class gets its share.

    Args:
        model: as of `fewbit.quantize`.
        data: samples (docs/data.md) that can be read twice.
        out: an .npz; or, for samples of different shapes, a new folder of one .npz each.
        count: how many to choose.
        seed: of the 4096 samples that are looked at where there are more; else the choice does not depend on it.

    Raises:
        InputError: wrong model or samples, or fewer samples than are to be chosen. OutputError: `out` cannot be written.
    """
    path = Path(out)
    _check_out(path)
    if count < 1:
        raise DataError(f"the number of samples to choose must be at least 1, given {count}")
    if isinstance(data, Iterator):
        raise DataError(
            "the samples are an iterator, which can be read once, and a choice reads them twice: give a list"
        )
    (opened,) = open_models([model], importing, data, progress)
    hub = load(opened)
    inputs = hub_inputs(hub)
    source, notes = samples_in_layout(data, inputs, limit=None, preprocess=preprocess, purpose="a choice")
    held = source.count if source.count is not None else sum(1 for _ in source.items())
    if held < count:
        raise DataError(
            f"{count} samples are to be chosen, and {source.description} has {held}: give more, or a lower -n"
        )
    among = _among(held, count, seed)
    if len(among) < held:
        notes.append(
            f"{len(among)} of {held} samples were looked at: the first {count}, and others drawn with seed {seed}"
        )
    seen = _looked_at(hub, Selected(source, among).of(source), len(among), progress)
    features = standardized(seen.blocks)
    kinds = None if any(label is None for label in seen.labels) else classes_of(seen.labels)
    chosen = k_center(features, count, kinds)
    positions = [among[i] for i in chosen]
    _write(path, Selected(source, positions).of(source), inputs, count)
    return Selection(
        path,
        source.description,
        held,
        positions,
        None if kinds is None else int(kinds.max()) + 1,
        _coverage(features, seen.ends, chosen),
        _coverage(features, seen.ends, range(count)),
        notes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the samples show. blocks: (samples, channels) each, of some activations. ends: least and greatest values of all
    activations, (2, samples, activations)."""

    blocks: list[NDArray[np.float64]]
    ends: NDArray[np.float64]
    labels: list[Any]


def _among(held: int, count: int, seed: int) -> list[int]:
    """The positions of the samples that are looked at, ascending: all, or the first ones and some drawn from the others."""
    if held <= max(MOST, count):
        return list(range(held))
    drawn = np.random.default_rng(seed).choice(np.arange(count, held), max(MOST, count) - count, replace=False)
    return [*range(count), *np.sort(drawn).tolist()]


def _looked_at(hub: Hub, samples: Iterator[Sample], count: int, progress: Progress) -> _Seen:
    sites: dict[str, int | None] = {**read_values(hub)}
    if not sites:
        raise ModelError(
            "the model has no layer with weights (Conv, Gemm, MatMul) whose activations would tell samples apart"
        )
    names = list(sites)
    some = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, _SITES).round().astype(int))]
    labels: list[Any] = []
    rows: list[list[NDArray[Any]]] = []
    ends: list[tuple[list[float], list[float]]] = []

    def feeds() -> Iterator[Mapping[str, NDArray[Any]]]:
        for sample in samples:
            labels.append(sample.label)
            yield sample.feed

    with progress.task("looking at samples", count) as advance:
        for one in pooled(hub, sites, feeds()):
            rows.append([part for name in some for part in one[name]])
            ends.append(([float(p.low.min()) for p in one.values()], [float(p.high.max()) for p in one.values()]))
            advance(1)
    blocks = [np.array(block, np.float64) for block in zip(*rows, strict=True)]
    return _Seen(blocks, np.array(ends).transpose(1, 0, 2), labels)


def _coverage(features: NDArray[np.float64], ends: NDArray[np.float64], chosen: Sequence[int]) -> Coverage:
    found = distances_to(features, chosen)
    low, high = ends
    some = list(chosen)
    width = high.max(0) - low.min(0)
    reached = high[some].max(0) - low[some].min(0)
    shares = reached[width > 0] / width[width > 0]
    return Coverage(found.mean, found.largest, float(shares.mean()) if shares.size else 1.0)


def _check_out(path: Path) -> None:
    """Raise OutputError before the work for what cannot be written after it."""
    if path.suffix == ".npz":
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    elif path.suffix:
        raise OutputError(f"{path} must end with .npz, or be a folder for one .npz a sample")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputError(f"{path} exists already: give a new folder, or a name that ends with .npz")


def _write(path: Path, samples: Iterator[Sample], inputs: Sequence[InputInfo], count: int) -> None:
    if path.suffix != ".npz":
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        for index, sample in enumerate(islice(samples, count)):
            label = {} if sample.label is None else {LABELS: np.asarray(sample.label)}
            _save(path / f"{index:05d}.npz", {**sample.feed, **label})
        return
    held = list(samples)
    batch = batch_of(inputs)
    arrays = {}
    for info in inputs:
        shapes = sorted({sample.feed[info.name].shape for sample in held})
        if len(shapes) > 1 or not shapes[0] or shapes[0][0] != batch:
            told = " and ".join(str(list(shape)) for shape in shapes[:2])
            raise DataError(
                f"input {info.name} has shape {told}: an .npz holds one row of one shape a sample; give -o a folder, which "
                "gets one file for each"
            )
        arrays[info.name] = np.concatenate([sample.feed[info.name] for sample in held])
    if not any(sample.label is None for sample in held):
        arrays[LABELS] = _labels([sample.label for sample in held], batch)
    _save(path, arrays)


def _labels(labels: Sequence[Any], batch: int) -> NDArray[Any]:
    rows = [np.asarray(label) for label in labels]
    shapes = {row.shape for row in rows}
    if len(shapes) > 1 or any(row.dtype.hasobject for row in rows):
        raise DataError(
            "the labels have different shapes, which one array does not hold: give -o a folder, which gets one file for each"
        )
    return np.concatenate(rows) if batch > 1 and rows[0].shape[:1] == (batch,) else np.stack(rows)


def _save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    with atomic_files(path) as (file,):
        np.savez(file, **arrays)  # type: ignore[arg-type]
