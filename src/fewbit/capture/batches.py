"""Samples stacked to batches, where a model treats its first axis as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.taps import Reading
from fewbit.errors import DataError
from fewbit.graph.facts import state_inputs
from fewbit.graph.hub import Hub

Feed = Mapping[str, NDArray[Any]]

# Of the largest value of a tensor. Float32 sums in another order differ by a hundredth of it.
_TOLERANCE = 1e-4


def obstacle(hub: Hub, sites: Mapping[str, int | None], sample: Feed) -> str | None:
    """Why samples cannot be stacked, as far as graph and first sample tell; None if they perhaps can (`trial` decides).

    Args:
        sites: value name → channel axis, or None.
    """
    symbols = {info.name: info.shape[0] if info.shape else None for info in hub.inputs}
    for name, size in symbols.items():
        if not isinstance(size, str):
            return f"the first axis of input {name} is {'not known' if size is None else f'fixed to {size}'}"
    if len(set(symbols.values())) != 1:
        return f"the inputs differ in their first axis: {', '.join(f'{n} {s}' for n, s in symbols.items())}"
    for name in symbols:
        if name in sample and len(sample[name]) != 1:
            return f"the first sample has {len(sample[name])} rows of input {name}, not one"
    states = [state.input for state in state_inputs(hub)]
    if states:
        return f"input {states[0]} is a state that the model hands to its next call"
    for name, channel in sites.items():
        shape = hub.shape(hub.value(name))
        if not shape or isinstance(shape[0], int) or (channel is not None and channel % len(shape) == 0):
            return f"the first axis of {name} does not count samples"
    return None


def trial(read: Callable[[Sequence[Feed]], Mapping[str, Reading]], samples: Sequence[Feed]) -> str | None:
    """Why a run of these samples together is not what each is alone; None if every site agrees.

    Args:
        read: runs some samples together, and gives the readings of every site.
    """
    alone = [read([sample]) for sample in samples]
    try:
        together = read(samples)
    except DataError as error:
        return f"the model does not run on several samples: {error}"
    for name, given in together.items():
        wanted = [readings[name] for readings in alone]
        if any(one.shape[0] != 1 for one in wanted) or given.shape != (len(samples), *wanted[0].shape[1:]):
            return f"the first axis of {name} does not count samples"
        for part in range(3):
            numbers = np.concatenate([one[part] for one in wanted])
            largest = np.abs(numbers).max(initial=0.0, where=np.isfinite(numbers))
            if not np.allclose(given[part], numbers, rtol=0.0, atol=_TOLERANCE * largest, equal_nan=True):
                return f"{name} is not the same where its sample runs beside another"
    return None


def grouped(feeds: Iterable[Feed], size: int) -> Iterator[list[Feed]]:
    """Up to `size` consecutive samples at a time: of the same shapes and dtypes, and with a first axis of 1 in all inputs."""
    group: list[Feed] = []
    for feed in feeds:
        if group and (len(group) == size or not _fit(group[0], feed)):
            yield group
            group = []
        group.append(feed)
    if group:
        yield group


def stack(group: Sequence[Feed]) -> Feed:
    """One feed of several samples."""
    return group[0] if len(group) == 1 else {name: np.concatenate([f[name] for f in group]) for name in group[0]}


def _fit(first: Feed, other: Feed) -> bool:
    return first.keys() == other.keys() and all(
        array.shape == other[name].shape and array.dtype == other[name].dtype and array.shape[:1] == (1,)
        for name, array in first.items()
    )
