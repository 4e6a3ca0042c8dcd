"""One float pass over the samples, statistics of all sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.batches import grouped, obstacle, stack, trial
from fewbit.capture.taps import PHASE, Reading, add_taps, read_tap
from fewbit.core.excerpt import Excerpt
from fewbit.core.stats import TensorStats
from fewbit.errors import DataError
from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import open_session

Feed = Mapping[str, NDArray[Any]]

_BUFFERED = 1 << 17  # numbers of a site that wait to be counted: many at once cost a third
_EXCERPT_SAMPLES = 16  # whose strided values are kept: means over positions converge fast
_EXCERPT_BYTES = 64 << 20  # of all sites together
_STRIDE = 7919  # a prime larger than most steps: positions of one sample after another are far apart
_BATCH_BYTES = 32 << 20  # of all sites together: beyond the caches a batch gains nothing


@dataclass(frozen=True, slots=True)
class Observed:
    """What the samples showed, by site.

    batch: of how many samples the largest run was. one_by_one: why no more ran at once, where more were asked for.
    """

    stats: dict[str, TensorStats]
    excerpts: dict[str, Excerpt]
    batch: int
    one_by_one: str | None


def collect(
    hub: Hub,
    sites: Mapping[str, int | None],
    feeds: Iterable[Feed],
    *,
    max_values: int = 8192,
    batch: int = 1,
    threads: int = 1,
    advance: Callable[[int], None] | None = None,
) -> Observed:
    """Statistics of every site from one pass of the float model. Memory does not grow with the number of samples.

    Args:
        sites: value name → channel axis (None: statistics of the tensor as a whole).
        feeds: the samples, consumed once.
        max_values: how many values of a sample and site enter the histogram; range and means are exact.
        batch: how many samples may run at once, where the first axis of the model counts samples; the range and means of
            each are kept apart, so that they are those of samples that run one by one.
        advance: called with the number of samples that ran.

    Raises:
        DataError: no samples, or the model cannot run on one.
    """
    if not sites:
        return Observed({}, {}, 1, None)
    stream = iter(feeds)
    first = next(stream, None)
    if first is None:
        raise DataError("there are no samples: calibration needs at least one")
    shapes = site_shapes(hub, list(sites), first)
    reason = obstacle(hub, sites, first) if batch > 1 else None
    size = 1 if reason else min(batch, max(1, _BATCH_BYTES // (4 * sum(map(prod, shapes.values())) or 1)))
    if reason is None and size == 1 < batch:
        reason = "the activations of two samples are larger than a batch may be"
    model, taps = add_taps(hub, sites, shapes, max_values, by_sample=size > 1)
    session = open_session(model, threads=threads)
    del model

    def read(group: Sequence[Feed], phase: int = 0) -> dict[str, Reading]:
        outputs = session.run({**stack(group), PHASE: np.array([phase])})
        return {tap.name: read_tap(tap, outputs, phase, len(group)) for tap in taps}

    collected = {tap.name: _Collector(tap.axis) for tap in taps}
    excerpts = {tap.name: Excerpt(tap.axis) for tap in taps}
    done, kept, largest = 0, 0, 1
    for group in grouped(chain([first], stream), size):
        if len(group) > 1 and largest == 1 and reason is None:
            reason = trial(read, group[:2])
        for part in [group] if reason is None else [[feed] for feed in group]:
            readings = read(part, done * _STRIDE)
            for tap in taps:
                reading = readings[tap.name]
                collected[tap.name].add(reading)
                if done < _EXCERPT_SAMPLES and kept < _EXCERPT_BYTES:
                    shape = (1, *reading.shape[1:]) if size > 1 else reading.shape
                    excerpts[tap.name].add(reading.values, shape, reading.start, reading.step)
                    kept += reading.values.nbytes
            done += len(part)
            largest = max(largest, len(part))
            if advance is not None:
                advance(len(part))
    stats = {name: collector.finish() for name, collector in collected.items()}
    return Observed(stats, excerpts, largest, reason)


class _Collector:
    """Statistics of one site, with what was read of it gathered before it is counted."""

    def __init__(self, axis: int | None) -> None:
        self.stats = TensorStats(axis)
        self.waiting: list[Reading] = []
        self.held = 0

    def add(self, reading: Reading) -> None:
        if reading.values.size == 0:
            return
        self.waiting.append(reading)
        self.held += reading.values.size + 3 * reading.mean.size
        if self.held > _BUFFERED:
            self.finish()

    def finish(self) -> TensorStats:
        """Count what waits."""
        for _, alike in groupby(self.waiting, key=lambda reading: reading.shape):
            self._count(list(alike))
        if self.waiting:
            self.stats.histogram.update(np.concatenate([reading.values.reshape(-1) for reading in self.waiting]))
        self.waiting, self.held = [], 0
        return self.stats

    def _count(self, readings: Sequence[Reading]) -> None:
        """Readings of one shape."""
        low, high, mean = (np.concatenate([r[part] for r in readings]) for part in range(3))
        infinite = ~np.isfinite(mean).all(1)
        if infinite.any():  # a mask of -inf, say: the finite values still count
            self.stats.nonfinite_samples += int(infinite.sum())
            low, high = np.nan_to_num(low), np.nan_to_num(high)
            mean = np.nan_to_num(mean, posinf=0.0, neginf=0.0)
        each = prod(readings[0].shape) // readings[0].mean.size
        self.stats.update_reduced(low, high, mean.astype(np.float64) * each, each)


def site_shapes(hub: Hub, names: Sequence[str], feed: Feed) -> dict[str, tuple[int, ...]]:
    """The shapes that values have for one feed: from the graph where its symbols can be bound, else by running it."""
    symbols: dict[str, int] = {}
    for info in hub.inputs:
        for size, actual in zip(info.shape or (), np.shape(feed.get(info.name, ())), strict=False):
            if isinstance(size, str):
                symbols[size] = actual
    values = {str(v.name): v for v in hub.values()}
    shapes: dict[str, tuple[int, ...]] = {}
    unknown: list[str] = []
    for name in names:
        shape = hub.shape(values[name])
        sizes = None if shape is None else [symbols.get(n) if isinstance(n, str) else n for n in shape]
        if sizes is None or any(n is None for n in sizes):
            unknown.append(name)
        else:
            shapes[name] = tuple(int(n) for n in sizes if n is not None)
    if unknown:
        shapes.update(zip(unknown, (np.shape(a) for a in next(fetch(hub, unknown, [feed])).values()), strict=True))
    return shapes


def fetch(hub: Hub, names: Sequence[str], feeds: Iterable[Feed]) -> Iterator[dict[str, NDArray[Any]]]:
    """The values of named tensors for one feed after another, whole."""
    copy = hub.clone()
    values = {str(v.name): v for v in copy.values()}
    inputs = {info.name for info in hub.inputs}
    wanted = [name for name in names if name not in inputs]
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in wanted)
    session = open_session(copy.model) if wanted else None
    for feed in feeds:
        made = dict(zip(wanted, session.run(feed), strict=True)) if session is not None else {}
        yield {name: made[name] if name in made else feed[name] for name in names}
