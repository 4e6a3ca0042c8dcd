"""Sequences are lists, and an empty optional is None."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fewbit.torchgraph.node import Host, Node, Row, Value, as_tensor, number


def _insert(node: Node, sequence: list[Value], value: Value, position: Value = None) -> list[Value]:
    place = len(sequence) if position is None else number(position)
    place = place + len(sequence) if place < 0 else place
    return [*sequence[:place], value, *sequence[place:]]


def _erase(node: Node, sequence: list[Value], position: Value = None) -> list[Value]:
    place = (-1 if position is None else number(position)) % len(sequence)
    return [*sequence[:place], *sequence[place + 1 :]]


def _concat(node: Node, sequence: list[Value]) -> Tensor:
    parts = as_tensor(sequence)
    return torch.stack(parts, node["axis"]) if node["new_axis"] else torch.cat(parts, node["axis"])


def _split(node: Node, x: Tensor, sizes: Host | None = None) -> list[Tensor]:
    """Into parts of the given sizes, of one size, or of 1, whose axis then stays with `keepdims`."""
    axis = node["axis"]
    if sizes is not None:
        return list(torch.split(x, sizes.tolist() if sizes.ndim else int(sizes), axis))
    return list(x.split(1, axis) if node["keepdims"] else x.unbind(axis))


ROWS: dict[str, Row] = {
    "SequenceEmpty": Row(lambda node: []),
    "SequenceConstruct": Row(lambda node, *inputs: list(inputs), either=(-1,)),
    "SequenceAt": Row(lambda node, sequence, position: sequence[number(position)], either=(-1,)),
    "SequenceLength": Row(lambda node, sequence: np.asarray(len(sequence), np.int64), either=(-1,)),
    "SequenceInsert": Row(_insert, either=(-1,)),
    "SequenceErase": Row(_erase, either=(-1,)),
    "ConcatFromSequence": Row(_concat),
    "SplitToSequence": Row(_split, host=(1,)),
    "Optional": Row(lambda node, value=None: value, either=(-1,)),
    "OptionalHasElement": Row(lambda node, value=None: np.asarray(value is not None), either=(-1,)),
    "OptionalGetElement": Row(lambda node, value: value, either=(-1,)),
}
