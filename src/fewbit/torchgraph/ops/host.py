"""Arithmetic of sizes, axes and indices on the host, in numpy. A node whose inputs are all known there stays there.

So a chain from Shape to Reshape is plain integers, and what traces a module (`torch.export`) sees no tensor in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.torchgraph.node import Host, Node
from fewbit.torchgraph.ops.indexing import given_axes, reshape_sizes, slices, split_sizes

Numpy = Callable[..., Any]


def _div(a: Host, b: Host) -> Host:
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a))  # towards zero


def _mod(node: Node, a: Host, b: Host) -> Host:
    return np.fmod(a, b) if node["fmod"] else np.mod(a, b)


def _reduced(run: Numpy) -> Numpy:
    def reduced(node: Node, x: Host, axes: Host | None = None) -> Host:
        chosen = given_axes(node, axes)
        if chosen is None and node.get("noop_with_empty_axes", 0):
            return x
        return np.asarray(
            run(x, axis=None if chosen is None else tuple(chosen), keepdims=bool(node["keepdims"]))
        ).astype(x.dtype)

    return reduced


def _unsqueeze(node: Node, x: Host, axes: Host) -> Host:
    return np.expand_dims(x, tuple(axes.reshape(-1).tolist()))


def _squeeze(node: Node, x: Host, axes: Host | None = None) -> Host:
    return np.squeeze(x, None if (chosen := given_axes(node, axes)) is None else tuple(chosen))


def _slice(node: Node, x: Host, *bounds: Host | None) -> Host:
    found: Any = slices(x.shape, *bounds)
    return x[found]


def _range(node: Node, start: Host, stop: Host, step: Host) -> Host:
    limits: list[Any] = [start.item(), stop.item(), step.item()]
    return np.arange(*limits, dtype=start.dtype)


def _split(node: Node, x: Host, sizes: Host | None = None) -> tuple[Host, ...]:
    parts = split_sizes(node, x.shape, sizes)
    return tuple(np.split(x, np.cumsum(parts)[:-1], node["axis"]))


def _constant_of_shape(node: Node, shape: Host) -> Host:
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(shape.tolist(), value.item(), value.dtype)


def _elementwise(run: Numpy) -> Numpy:
    return lambda node, *inputs: run(*inputs)


def _folded(run: Numpy) -> Numpy:
    return lambda node, *inputs: reduce(run, inputs)


_FUNCTIONS: dict[str, Numpy] = {
    "Identity": lambda node, x: x,
    "Cast": lambda node, x: x.astype(ir.DataType(node["to"]).numpy()),
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_div),
    "Mod": _mod,
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(lambda x: 1 / x),
    "Min": _folded(np.minimum),
    "Max": _folded(np.maximum),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Not": _elementwise(np.logical_not),
    "Where": _elementwise(np.where),
    "ReduceSum": _reduced(np.sum),
    "ReduceProd": _reduced(np.prod),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "Gather": lambda node, x, indices: np.take(x, indices, node["axis"]),
    "Concat": lambda node, *inputs: np.concatenate(inputs, node["axis"]),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": lambda node, x, shape: x.reshape(reshape_sizes(node, x.shape, shape)),
    "Expand": lambda node, x, shape: x * np.ones(shape.tolist(), x.dtype),
    "Transpose": lambda node, x: np.transpose(x, node.get("perm")),
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
}


def on_host(node: Node, inputs: list[Any]) -> Any:
    """The outputs of a node whose inputs are all on the host, or NotImplemented when it has to run in torch."""
    run = None if node.domain else _FUNCTIONS.get(node.op)
    if run is None:
        return NotImplemented
    result = run(node, *inputs)
    return tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)
