"""Runs a schedule: hands each step its inputs, as tensors or as numbers on the host, and lets go of what was read last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fewbit.errors import ModelError
from fewbit.torchgraph.dtypes import WIDENED, to_array, to_tensor, torch_dtype
from fewbit.torchgraph.node import Node, Row, Value
from fewbit.torchgraph.ops.host import on_host
from fewbit.torchgraph.program import Program, Schedule, Step


class Reading(Protocol):
    """What stands between a value and those who read it."""

    def __call__(self, name: str, reader: str, value: Value) -> Value:
        """What a node gets of a value as it was made."""

    def release(self, name: str) -> None:
        """Nobody reads this value any more."""


Plan = Callable[[Program, Collection[str], Sequence[str]], Schedule]
"""(graph, names of what is given, names of what is wanted) -> what to run."""


class Executor:
    """Executes graphs.

    Args:
        constants: a constant of the graph by its name.
        plan: makes schedules, of subgraphs too.
        read: what a node gets when it reads a value.
        kernels: what stands for the output of a node, from that output and the inputs, by the node's name.
    """

    def __init__(
        self, constants: Callable[[str], Value], plan: Plan, read: Reading, kernels: Mapping[str, Callable[..., Tensor]]
    ) -> None:
        self._constants = constants
        self._plan = plan
        self._read = read
        self._kernels = kernels

    def run(self, program: Program, values: dict[str, Value], wanted: Sequence[str]) -> list[Value]:
        """The wanted values as they were made. `values` is used up."""
        planned = self._plan(program, values.keys(), wanted)
        for step, released in zip(planned.steps, planned.released, strict=True):
            for name, value in zip(step.outputs, self._step(step, values), strict=False):
                if name:
                    values[name] = value
            for name in released:
                values.pop(name, None)
                self._read.release(name)
        return [self._value(name, values) for name in wanted]

    def _value(self, name: str, values: dict[str, Value]) -> Value:
        return values[name] if name in values else self._constants(name)

    def _step(self, step: Step, values: dict[str, Value]) -> tuple[Value, ...]:
        inputs = [
            self._read(name, reader, self._value(name, values)) if name else None
            for name, reader in zip(step.inputs, step.readers, strict=True)
        ]
        try:
            outputs = self._apply(step, inputs, values)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, NotImplementedError) as error:
            raise ModelError(
                f"{step.node} cannot run on {', '.join(map(describe, inputs))}: {' '.join(str(error).split())}"
            ) from error
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _apply(self, step: Step, inputs: list[Value], values: dict[str, Value]) -> Any:
        node, row = step.node, step.row
        if row.control:
            captured = {name: self._value(name, values) for name in step.captures}
            bodies = {key: partial(self._body, body, captured) for key, body in step.bodies.items()}
            return row.run(node, bodies, *inputs)
        if _all_on_host(inputs):
            outputs = on_host(node, inputs)
            if outputs is not NotImplemented:
                return outputs
        outputs = run_row(node, row, inputs)
        kernel = self._kernels.get(node.name)
        return outputs if kernel is None else kernel(outputs, *inputs)

    def _body(self, body: Program, captured: dict[str, Value], *inputs: Value) -> tuple[Value, ...]:
        values = {**captured, **dict(zip(body.inputs, inputs, strict=True))}
        return tuple(self.run(body, values, body.outputs))


def _all_on_host(inputs: Sequence[Value]) -> bool:
    given = [value for value in inputs if value is not None]
    return bool(given) and all(isinstance(value, np.ndarray) for value in given)


def run_row(node: Node, row: Row, inputs: Sequence[Value]) -> Any:
    """The outputs of an operator's function, its inputs brought into the form that its row asks for."""
    device = next((value.device for value in inputs if isinstance(value, Tensor)), None)
    ready = [_ready(row, index, value, device) for index, value in enumerate(inputs)]
    if not (row.widen and any(isinstance(value, Tensor) and value.dtype in WIDENED for value in ready)):
        return row.run(node, *ready)
    outputs = row.run(node, *(v.to(torch.int64) if isinstance(v, Tensor) and v.dtype in WIDENED else v for v in ready))
    if not isinstance(outputs, tuple):
        return _narrow(node, 0, outputs)
    return tuple(_narrow(node, index, value) for index, value in enumerate(outputs))


def _ready(row: Row, index: int, value: Value, device: torch.device | None) -> Value:
    if index in row.either or row.either == (-1,):
        return value
    if index in row.host or row.host == (-1,):
        return to_array(value) if isinstance(value, Tensor) else value
    return to_tensor(value).to(device) if isinstance(value, np.ndarray) else value


def _narrow(node: Node, index: int, value: Value) -> Value:
    """An output whose inputs were widened, in its own type again."""
    dtype = node.outputs[index] if index < len(node.outputs) else None
    if dtype is not None and isinstance(value, Tensor) and torch_dtype(dtype) in WIDENED:
        return value.to(torch_dtype(dtype))
    return value


def describe(value: Value) -> str:
    """Type and shape of a value, for messages."""
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    if value is None:
        return "nothing"
    return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
