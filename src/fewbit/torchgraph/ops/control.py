"""Branches and loops. Their subgraphs run as they are; a condition that is known on the host costs tracing nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fewbit.torchgraph.dtypes import torch_dtype
from fewbit.torchgraph.node import Body, Node, Row, Value, as_tensor, number


def _if(node: Node, bodies: Mapping[str, Body], condition: Value) -> tuple[Value, ...]:
    return bodies["then_branch" if number(condition) else "else_branch"]()


def _stack(node: Node, output: int, parts: Sequence[Value], axis: int = 0) -> Tensor:
    """What a body gave at each iteration, along a new axis. After no iteration its sizes are not known, and are left out."""
    if parts:
        return torch.stack([as_tensor(part) for part in parts], axis)
    dtype = node.outputs[output]
    return torch.zeros(0, dtype=None if dtype is None else torch_dtype(dtype))


def _loop(
    node: Node, bodies: Mapping[str, Body], most: Value = None, condition: Value = None, *states: Value
) -> tuple[Value, ...]:
    """body(iteration, condition, *states) -> (condition, *states, *what is collected)."""
    limit = None if most is None else int(number(most))
    carried: tuple[Value, ...] = states
    collected: list[list[Value]] = [[] for _ in range(len(node.outputs) - len(states))]
    going: Value = np.asarray(True) if condition is None else condition
    iteration = 0
    while (limit is None or iteration < limit) and number(going):
        going, *made = bodies["body"](np.asarray(iteration, np.int64), going, *carried)
        carried = tuple(made[: len(states)])
        for parts, value in zip(collected, made[len(states) :], strict=False):
            parts.append(value)
        iteration += 1
    stacked = [_stack(node, len(states) + index, parts) for index, parts in enumerate(collected)]
    return (*carried, *stacked)


def _scan(node: Node, bodies: Mapping[str, Body], *inputs: Value) -> tuple[Value, ...]:
    """body(*states, *one slice of each scanned input) -> (*states, *one slice of each scanned output)."""
    scanned = node["num_scan_inputs"]
    carried, sources = inputs[: len(inputs) - scanned], [as_tensor(v) for v in inputs[len(inputs) - scanned :]]
    count = len(node.outputs) - len(carried)
    in_axes, in_backward = node.get("scan_input_axes") or [0] * scanned, node.get("scan_input_directions")
    out_axes, out_backward = node.get("scan_output_axes") or [0] * count, node.get("scan_output_directions")
    slices = [source.unbind(axis) for source, axis in zip(sources, in_axes, strict=True)]
    slices = [s[::-1] if backward else s for s, backward in zip(slices, in_backward or [0] * scanned, strict=True)]
    collected: list[list[Value]] = [[] for _ in range(count)]
    states: tuple[Value, ...] = tuple(carried)
    for step in zip(*slices, strict=True):
        made = bodies["body"](*states, *step)
        states = made[: len(carried)]
        for parts, value in zip(collected, made[len(carried) :], strict=True):
            parts.append(value)
    stacked = [
        _stack(node, len(carried) + i, parts[::-1] if backward else parts, axis)
        for i, (parts, axis, backward) in enumerate(zip(collected, out_axes, out_backward or [0] * count, strict=True))
    ]
    return (*states, *stacked)


ROWS: dict[str, Row] = {
    "If": Row(_if, control=True),
    "Loop": Row(_loop, control=True),
    "Scan": Row(_scan, control=True),
}
