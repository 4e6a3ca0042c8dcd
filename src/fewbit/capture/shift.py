"""How far quantization moves the mean of each channel of an activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]
_AXES_AS_INPUT = 18  # the opset from which reductions take their axes as an input


def mean_shifts(
    hub: Hub,
    sites: Mapping[str, tuple[int, QParams, NDArray[np.float32] | None]],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
) -> dict[str, NDArray[np.float64]]:
    """E[q(x) - x] of every channel, from one float pass in which the runtime quantizes the values itself.

    Values that are clipped, and those that are rounded to zero because their channel is quiet, move the mean; the layers
    that read them can take it off their bias.

    Args:
        sites: value name → (channel axis, parameters of at most 8 bits, balance factors or None).
        feeds: a few samples.

    Returns:
        value name → shape (channels,), in the units of the undivided value.
    """
    copy = hub.clone()
    graph = copy.graph
    values = {str(v.name): v for v in copy.values()}
    outputs: list[ir.Value] = []
    count = 0

    def constant(array: NDArray[Any]) -> ir.Value:
        nonlocal count
        count += 1
        tensor = ir.tensor(array, name=f"shift_constant_{count}")
        value = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        graph.register_initializer(value)
        return value

    def node(op: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        nonlocal count
        count += 1
        made = ir.node(op, inputs, attributes=attributes, name=f"shift_{op}_{count}")
        made.outputs[0].name = f"shift_value_{count}"
        graph.append(made)
        return made.outputs[0]

    def mean(value: ir.Value, axes: list[int]) -> ir.Value:
        if not axes:
            return node("Identity", [value])
        if hub.opset >= _AXES_AS_INPUT:
            return node("ReduceMean", [value, constant(np.asarray(axes, np.int64))], keepdims=0)
        return node("ReduceMean", [value], axes=axes, keepdims=0)

    names = []
    for name, (axis, params, factors) in sites.items():
        value = values[name]
        if value.shape is None:
            continue
        rank = len(value.shape)
        channel = axis % rank
        if factors is not None:
            shape = [-1 if a == channel else 1 for a in range(rank)]
            value = node("Mul", [value, constant((1.0 / factors).astype(np.float32).reshape(shape))])
        scale = constant(np.asarray(params.scale, np.float32).reshape(()))
        zero = constant(np.asarray(params.zero_point).astype(params.spec.dtype.storage).reshape(()))
        axes = [a for a in range(rank) if a != channel]
        rounded = node("DequantizeLinear", [node("QuantizeLinear", [value, scale, zero]), scale, zero])
        outputs += [mean(value, axes), mean(rounded, axes)]
        names.append(name)
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    if not names:
        return {}
    session = open_session(copy.model, threads=threads)
    totals: dict[str, NDArray[np.float64]] = {}
    samples = 0
    for feed in feeds:
        samples += 1
        means = [np.asarray(m, np.float64).reshape(-1) for m in session.run(feed)]
        for i, name in enumerate(names):
            totals[name] = totals.get(name, 0.0) + (means[2 * i + 1] - means[2 * i])
    shifts = {}
    for name, total in totals.items():
        factors = sites[name][2]
        shifts[name] = total / samples if factors is None else total / samples * factors
    return shifts
