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

from fewbit.core.stats import coprime_step
from fewbit.graph.hub import Hub

_AXES_AS_INPUT = 18  # the opset from which reductions take their axes as an input
_FAR = np.iinfo(np.int64).max


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
    copy = hub.clone()
    graph = copy.graph
    values = {str(v.name): v for v in copy.values()}
    outputs: list[ir.Value] = []
    taps: list[Tap] = []
    taken = set(values)

    def constant(numbers: Sequence[int]) -> ir.Value:
        array = np.asarray(numbers, np.int64)
        name = f"tap_constant_{array.tobytes().hex()}"
        if name not in taken:
            taken.add(name)
            tensor = ir.tensor(array, name=name)
            value = ir.Value(
                name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(array.shape), const_value=tensor
            )
            graph.register_initializer(value)
        return graph.initializers[name]

    def node(op: str, inputs: list[ir.Value], tap: str, **attributes: object) -> ir.Value:
        made = ir.node(op, inputs, attributes=attributes, name=f"{tap}_{op}")  # type: ignore[arg-type]
        made.outputs[0].name = f"{tap}_{op}_value"
        graph.append(made)
        return made.outputs[0]

    for number, (name, axis) in enumerate(sites.items()):
        value, shape, tap = values[name], tuple(shapes[name]), f"tap{number}"
        rank = len(shape)
        channel = None if axis is None or rank == 0 else axis % rank
        if factors is not None and name in factors and channel is not None:
            shaped = (1.0 / factors[name]).reshape([-1 if a == channel else 1 for a in range(rank)])
            tensor = ir.tensor(shaped.astype(np.float32), name=f"{tap}_factors")
            factor = ir.Value(
                name=tensor.name,
                type=ir.TensorType(ir.DataType.FLOAT),
                shape=ir.Shape(shaped.shape),
                const_value=tensor,
            )
            graph.register_initializer(factor)
            value = node("Mul", [value, factor], tap)
        axes = [a for a in range(rank) if a != channel]
        taps.append(Tap(name, channel, len(outputs)))
        for op in ("ReduceMin", "ReduceMax", "ReduceMean"):
            if not axes:
                outputs.append(node("Identity", [value], f"{tap}{op}"))
            elif hub.opset >= _AXES_AS_INPUT:
                outputs.append(node(op, [value, constant(axes)], tap, keepdims=0))
            else:
                outputs.append(node(op, [value], tap, axes=axes, keepdims=0))
        flat = node("Reshape", [value, constant([-1])], tap)
        step = coprime_step(shape, int(np.prod(shape)), max_values)
        if step > 1:
            flat = node("Slice", [flat, constant([0]), constant([_FAR]), constant([0]), constant([step])], tap)
        outputs.append(flat)
        outputs.append(node("Size", [value], tap))
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    return copy.model, taps


def read_tap(tap: Tap, outputs: Sequence[NDArray[np.generic]]) -> tuple[NDArray, NDArray, NDArray, NDArray, int]:
    """(channel minima, maxima, means, strided values, number of values) of one tap, from all fetched outputs."""
    low, high, mean, values, size = outputs[tap.first_output : tap.first_output + tap.outputs]
    return low.reshape(-1), high.reshape(-1), mean.reshape(-1), values.reshape(-1), int(size)
