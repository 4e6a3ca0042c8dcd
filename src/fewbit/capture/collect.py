"""One float pass over the samples, statistics of all sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.taps import add_taps, read_tap
from fewbit.core.stats import TensorStats
from fewbit.errors import DataError
from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import open_session

Feed = Mapping[str, NDArray[Any]]

_BUFFERED = 1 << 17  # strided values that wait for the histogram: binning many at once costs a third


def collect(
    hub: Hub,
    sites: Mapping[str, int | None],
    feeds: Iterable[Feed],
    *,
    max_values: int = 8192,
    threads: int = 1,
    factors: Mapping[str, NDArray[np.float32]] | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[str, TensorStats]:
    """Statistics of every site from one pass of the float model. Memory does not grow with the number of samples.

    Args:
        sites: value name → channel axis (None: statistics of the tensor as a whole).
        feeds: the samples, consumed once.
        max_values: how many values of a sample and site enter the histogram; range and means are exact.
        factors: what the channels of some sites are divided by before they are looked at.
        advance: called with 1 after each sample.

    Raises:
        DataError: no samples, or the model cannot run on one.
    """
    if not sites:
        return {}
    stream = iter(feeds)
    first = next(stream, None)
    if first is None:
        raise DataError("there are no samples: calibration needs at least one")
    shapes = site_shapes(hub, list(sites), first)
    model, taps = add_taps(hub, sites, shapes, max_values, factors)
    session = open_session(model, threads=threads)
    del model
    collected = {tap.name: _Collector(tap.axis) for tap in taps}
    for feed in chain([first], stream):
        outputs = session.run(feed)
        for tap in taps:
            collected[tap.name].add(*read_tap(tap, outputs))
        if advance is not None:
            advance(1)
    return {name: collector.finish() for name, collector in collected.items()}


class _Collector:
    """Statistics of one site, with the strided values gathered before they are binned."""

    def __init__(self, axis: int | None) -> None:
        self.stats = TensorStats(axis)
        self.waiting: list[NDArray[np.float32]] = []
        self.held = 0

    def add(self, low: NDArray, high: NDArray, mean: NDArray, values: NDArray, size: int) -> None:
        if size == 0:
            return
        if not np.isfinite(mean).all():  # a mask of -inf, say: the finite values still count
            self.stats.nonfinite_samples += 1
            low, high = np.nan_to_num(low), np.nan_to_num(high)
            mean = np.nan_to_num(mean, posinf=0.0, neginf=0.0)
        each = size // low.size
        self.stats.update_reduced(low, high, mean.astype(np.float64) * each, each)
        self.waiting.append(values)
        self.held += values.size
        if self.held > _BUFFERED:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.stats.histogram.update(np.concatenate(self.waiting))
            self.waiting, self.held = [], 0

    def finish(self) -> TensorStats:
        self.flush()
        return self.stats


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
