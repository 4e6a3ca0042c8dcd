"""What single samples show at some sites: ranges and means of channels, without the activations themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbit.capture.collect import site_shapes
from fewbit.capture.taps import PHASE, add_taps, read_tap
from fewbit.errors import DataError
from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import open_session

Feed = Mapping[str, NDArray[Any]]


class Pooled(NamedTuple):
    """Of one sample at one site: minimum, maximum and mean of every channel, (channels,)."""

    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[Any]


def pooled(
    hub: Hub, sites: Mapping[str, int | None], feeds: Iterable[Feed], *, threads: int = 1
) -> Iterator[dict[str, Pooled]]:
    """For one feed after another, value name → what it showed, reduced inside of the graph.

    Args:
        sites: value name → channel axis (None: the tensor as a whole).

    Raises:
        DataError: no samples.
    """
    stream = iter(feeds)
    first = next(stream, None)
    if first is None:
        raise DataError("there are no samples: give one at least")
    model, taps = add_taps(hub, sites, site_shapes(hub, list(sites), first), max_values=1)
    session = open_session(model, threads=threads)
    del model
    for feed in chain([first], stream):
        outputs = session.run({**feed, PHASE: np.array([0])})
        yield {tap.name: Pooled(*(part[0] for part in read_tap(tap, outputs, 0)[:3])) for tap in taps}
