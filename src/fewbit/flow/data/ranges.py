"""What samples do inside of the float model: whether ranges have settled, and whether values are as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from fewbit.capture.collect import collect
from fewbit.core.normal import Normal
from fewbit.core.ranges.mse import range_
from fewbit.core.stats import TensorStats
from fewbit.data.check import Feed
from fewbit.graph.hub import Hub
from fewbit.graph.normals import remembered_normals
from fewbit.graph.ops import weight_of
from fewbit.spec import DType, QSpec

MOVED = 0.1
"""Of the width of a range: 10 % wider steps are 0.8 dB more noise."""

WIDER, APART = 1.5, 0.5
"""Times as wide as in training or as narrow, and deviations away from it, up to which values are alike. Eight samples, or
those of one class, keep within 1.04 and 0.04; pixels of -1 to 1 for 0 to 1 give 2.0 and 1.0 (docs/data.md)."""

_BATCH = 8  # as calibration (docs/benchmarks.md)
_UINT8 = QSpec(DType("uint", 8), symmetric=False)
_HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Settled:
    """How far the ranges of activations that weights read still move from the first half of the samples to all of them, as
    shares of their widths.

    samples: all of them. moved: activations that move by more than a tenth. worst: the one that moves most, and how far.
    """

    samples: int
    activations: int
    moved: int
    median: float
    worst: tuple[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "activations": self.activations,
            "moved": self.moved,
            "median": self.median,
            "worst": {"name": self.worst[0], "share": self.worst[1]},
        }


@dataclass(frozen=True, slots=True)
class Trained:
    """The first values whose normal distribution in training is known, beside what samples make of them.

    width: standard deviation over that in training, of all channels. apart: root mean square of the channels' means less those
    in training, over the same deviation.
    """

    value: str
    width: float
    apart: float

    @property
    def alike(self) -> bool:
        return 1 / WIDER <= self.width <= WIDER and self.apart <= APART

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "width": self.width, "apart": self.apart, "alike": self.alike}


def look_inside(
    hub: Hub, feeds: Iterable[Feed], count: int, *, threads: int = 1, advance: Callable[[int], None] | None = None
) -> tuple[Settled | None, Trained | None]:
    """One float pass over `count` samples. Each part is None where there is nothing to tell: fewer than two samples or no
    activations that weights read, and nothing remembered of training."""
    read = read_values(hub)
    normals = remembered_normals(hub)
    first = next((name for node in hub.nodes() for o in node.outputs if (name := str(o.name)) in normals), None)
    sites: dict[str, int | None] = dict.fromkeys(read)
    if first is not None:
        sites[first] = 1
    if not sites:
        return None, None
    stream = iter(feeds)
    halves = [
        collect(hub, sites, part, batch=_BATCH, threads=threads, advance=advance).stats
        for part in _parts(islice(stream, count), count)
    ]
    whole = {name: halves[0][name].copy() for name in sites}
    for name in sites if len(halves) > 1 else ():
        whole[name].merge(halves[1][name])
    settled = _settled([n for n in read if n in sites and n != first], halves[0], whole) if len(halves) > 1 else None
    return settled, None if first is None else _trained(first, whole[first], normals[first])


def read_values(hub: Hub) -> dict[str, int]:
    """The activations that weights multiply, in the order of the graph, and the axis of their channels."""
    return {
        str(node.inputs[0].name): 1 if node.op_type in ("Conv", "ConvTranspose") else -1
        for node in hub.nodes()
        if node.op_type in _HEAVY and weight_of(node) is not None and node.inputs[0] is not None
        if node.inputs[0].const_value is None
    }


def _parts(feeds: Iterable[Feed], count: int) -> list[Iterable[Feed]]:
    """The first half and the rest, to be read one after the other."""
    stream = iter(feeds)
    half = count // 2
    return [islice(stream, half), stream] if half else [stream]


def _settled(names: Iterable[str], half: dict[str, TensorStats], whole: dict[str, TensorStats]) -> Settled | None:
    moved = {name: move for name in names if (move := _moved(half[name], whole[name])) is not None}
    if not moved:
        return None
    worst = max(moved, key=lambda name: moved[name])
    return Settled(
        next(iter(whole.values())).samples,
        len(moved),
        sum(move > MOVED for move in moved.values()),
        float(np.median([*moved.values()])),
        (worst, moved[worst]),
    )


def _moved(half: TensorStats, whole: TensorStats) -> float | None:
    """How far the ends of the 8-bit range of least error move, over its width."""
    (low, high), (all_low, all_high) = range_(half, _UINT8), range_(whole, _UINT8)
    width = all_high - all_low
    return (abs(low - all_low) + abs(high - all_high)) / width if width > 0.0 else None


def _trained(name: str, stats: TensorStats, normal: Normal) -> Trained | None:
    """Deviations of all channels together: the histogram keeps no channels apart."""
    lower, upper, counts = stats.histogram.support()
    deviation = float(np.sqrt(np.mean(normal.std**2)))
    if not counts.size or deviation == 0.0 or stats.channel_mean.shape != normal.mean.shape:
        return None
    square = float(np.average(((lower + upper) / 2) ** 2, weights=counts))
    spread = np.sqrt(max(square - float(np.mean(stats.channel_mean**2)), 0.0))
    apart = np.sqrt(np.mean((stats.channel_mean - normal.mean) ** 2))
    return Trained(name, float(spread / deviation), float(apart / deviation))
