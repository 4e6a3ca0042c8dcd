"""What an operator's function is told: its node's attributes and types, and how its row in the tables looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewbit.torchgraph.dtypes import to_tensor, torch_dtype

Host = NDArray[np.generic]
"""Numbers known on the host, such as sizes and axes: computed with numpy, so that tracing sees plain integers."""

Value = Tensor | Host | list[Any] | None
"""What travels along an edge: a tensor, numbers on the host, a sequence, or an optional that is empty."""


def as_tensor(value: Value) -> Any:
    """What travels along an edge with tensors in place of numbers on the host."""
    if isinstance(value, list):
        return [as_tensor(v) for v in value]
    return to_tensor(value) if isinstance(value, np.ndarray) else value


def number(value: Value) -> Any:
    """A Python number or truth. Raises TypeError for anything but one number."""
    if not isinstance(value, Tensor | np.ndarray):
        raise TypeError("one number is wanted")
    return value.item()


Body = Callable[..., tuple[Value, ...]]
"""A subgraph: its inputs in, its outputs out."""


@dataclass(frozen=True)
class Node:
    """A node as its operator's function sees it.

    attributes: as numbers, strings, lists, arrays; what the node leaves out has the default of the operator's version.
    opset: the version of the operator set of the node's domain.
    inputs, outputs: the ONNX types of its ends, None where a missing input is or a type is not known.
    wanted: for each output whether anybody reads it.
    constant: indices of the inputs that are constants of the graph.
    """

    name: str
    domain: str
    op: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[ir.DataType | None, ...] = ()
    outputs: tuple[ir.DataType | None, ...] = ()
    wanted: tuple[bool, ...] = ()
    constant: frozenset[int] = frozenset()

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def __str__(self) -> str:
        return f"{self.op} node {self.name!r}"

    def dtype(self, attribute: str) -> torch.dtype:
        """The torch dtype that an attribute such as `to` or `dtype` names."""
        return torch_dtype(ir.DataType(self[attribute]))


@dataclass(frozen=True)
class Row:
    """An operator: `run(node, *inputs)` gives its output, or a tuple of its outputs.

    Missing optional inputs come as None, or not at all at the end.

    host: indices of inputs that `run` wants as numpy arrays (sizes, axes, pads). -1: every input.
    either: indices of inputs that `run` takes as they are, tensor or array. -1: every input.
    control: `run(node, bodies, *inputs)`, with the subgraphs by the names of their attributes.
    widen: unsigned integers that torch cannot compute with come as int64, and int64 outputs go back to the type of the graph.
    """

    run: Callable[..., Any]
    host: tuple[int, ...] = ()
    either: tuple[int, ...] = ()
    control: bool = False
    widen: bool = True


def plain(run: Callable[..., Any]) -> Row:
    """A row of a function of tensors alone, without attributes."""
    return Row(lambda node, *inputs: run(*inputs))
