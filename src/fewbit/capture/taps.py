"""Reductions inside the graph: what leaves the runtime is small, and the activations' buffers are reused.

For a tapped value the runtime itself computes minimum, maximum and mean of each channel and takes every n-th value.
Fetching the values whole costs half as much again in time, and memory for all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Probe
from fewbit.core.stats import coprime_step
from fewbit.graph.hub import Hub

PHASE = "fewbit_phase"
"""An input of the tapped model, int64 of shape (1,): the position of the first value taken, modulo the step. If all samples
were taken from the same positions, one outlier that always lies at the same place would count every time or never."""

_FAR = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Tap:
    """One tapped value, every `step`-th of which is taken. Its outputs are consecutive."""

    name: str
    axis: int | None
    step: int
    first_output: int


class Reading(NamedTuple):
    """What one tap showed.

    low, high, mean: of each sample and channel, (samples, channels). values: of each sample or of its rows, (rows, n). start,
    step: where in each row the values were taken. shape: of the value as it ran.
    """

    low: NDArray[Any]
    high: NDArray[Any]
    mean: NDArray[Any]
    values: NDArray[Any]
    start: int
    step: int
    shape: tuple[int, ...]


def add_taps(
    hub: Hub,
    sites: Mapping[str, int | None],
    shapes: Mapping[str, Sequence[int]],
    max_values: int,
    *,
    by_sample: bool = False,
) -> tuple[ir.Model, list[Tap]]:
    """A copy of the model whose outputs are the taps.

    Args:
        sites: value name → channel axis (None: one channel).
        shapes: value name → its shape for the first sample, from which the stride is chosen.
        max_values: about how many values of a sample are taken.
        by_sample: whether the first axis counts samples, whose reductions are kept apart.
    """
    probe = Probe(hub)
    outputs: list[ir.Value] = []
    taps: list[Tap] = []

    def integers(*numbers: int) -> ir.Value:
        return probe.constant(np.asarray(numbers, np.int64))

    phase = ir.Value(name=PHASE, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1]))
    probe.graph.inputs.append(phase)
    for name in probe.deepest_first(sites):
        axis, value, shape = sites[name], probe.values[name], tuple(shapes[name])
        rank = len(shape)
        channel = None if axis is None or rank == 0 else axis % rank
        kept = {channel, 0} if by_sample else {channel}
        axes = [a for a in range(rank) if a not in kept]
        step = coprime_step(shape, prod(shape), max_values)
        taps.append(Tap(name, channel, step, len(outputs)))
        outputs += [probe.reduce(op, value, axes) for op in ("ReduceMin", "ReduceMax", "ReduceMean")]
        flat = probe.node("Reshape", [value, integers(0, -1) if by_sample else integers(1, -1)])  # 0: as it is
        if step > 1:
            start = probe.node("Mod", [phase, integers(step)])
            flat = probe.node("Slice", [flat, start, integers(_FAR), integers(1), integers(step)])
        outputs += [flat, probe.node("Shape", [value])]
    return probe.model(outputs), taps


def read_tap(tap: Tap, outputs: Sequence[NDArray[Any]], phase: int, samples: int = 1) -> Reading:
    """The reading of one tap, from all outputs of a run of some samples with this phase."""
    low, high, mean, values, shape = outputs[tap.first_output : tap.first_output + 5]
    low, high, mean = (array.reshape(len(values), -1) for array in (low, high, mean))
    if len(values) != samples:  # one sample of several rows
        low, high, mean = low.min(0, keepdims=True), high.max(0, keepdims=True), mean.mean(0, keepdims=True)
    return Reading(low, high, mean, values, phase % tap.step, tap.step, tuple(shape.tolist()))
