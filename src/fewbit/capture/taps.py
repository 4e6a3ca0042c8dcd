"""Reductions inside the graph: what leaves the runtime is small, and the activations' buffers are reused.

For a tapped value the runtime itself computes minimum, maximum and mean of each channel and takes every n-th value.
Fetching the values whole costs half as much again in time, and memory for all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Probe
from fewbit.core.stats import coprime_step
from fewbit.graph.hub import Hub

_FAR = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Tap:
    """One tapped value: the outputs min, max, mean, strided values and the value's size are consecutive."""

    name: str
    axis: int | None
    first_output: int
    outputs: int = 5


def add_taps(
    hub: Hub,
    sites: Mapping[str, int | None],
    shapes: Mapping[str, Sequence[int]],
    max_values: int,
    factors: Mapping[str, NDArray[np.float32]] | None = None,
) -> tuple[ir.Model, list[Tap]]:
    """A copy of the model whose outputs are the taps.

    Args:
        sites: value name → channel axis (None: one channel).
        shapes: value name → its shape for the first sample, from which the stride is chosen.
        max_values: about how many values of a sample are taken.
        factors: value name → what its channels are divided by before they are looked at.
    """
    probe = Probe(hub)
    outputs: list[ir.Value] = []
    taps: list[Tap] = []

    def integers(*numbers: int) -> ir.Value:
        return probe.constant(np.asarray(numbers, np.int64))

    for name in probe.deepest_first(sites):
        axis, value, shape = sites[name], probe.values[name], tuple(shapes[name])
        rank = len(shape)
        channel = None if axis is None or rank == 0 else axis % rank
        if factors is not None and name in factors and channel is not None:
            value = probe.node("Mul", [value, probe.along(1.0 / factors[name], channel, rank)])
        axes = [a for a in range(rank) if a != channel]
        taps.append(Tap(name, channel, len(outputs)))
        outputs += [probe.reduce(op, value, axes) for op in ("ReduceMin", "ReduceMax", "ReduceMean")]
        flat = probe.node("Reshape", [value, integers(-1)])
        step = coprime_step(shape, int(np.prod(shape)), max_values)
        if step > 1:
            flat = probe.node("Slice", [flat, integers(0), integers(_FAR), integers(0), integers(step)])
        outputs += [flat, probe.node("Size", [value])]
    return probe.model(outputs), taps


def read_tap(tap: Tap, outputs: Sequence[NDArray[np.generic]]) -> tuple[NDArray, NDArray, NDArray, NDArray, int]:
    """(channel minima, maxima, means, strided values, number of values) of one tap, from all fetched outputs."""
    low, high, mean, values, size = outputs[tap.first_output : tap.first_output + tap.outputs]
    return low.reshape(-1), high.reshape(-1), mean.reshape(-1), values.reshape(-1), int(size)
