"""Recurrent operators, step by step: LiteRT's keep their states to themselves, where ONNX's take and give them.

With fixed shapes the number of steps is known. The product by the input is one for all steps, and of the weights there is one
copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fewbit.formats.litert.write.emit import refuse
from fewbit.formats.litert.write.graph import Array, Graph, Op, Tensor

MOST_STEPS = 256
"""A file of more would be mostly operators."""


def unroll(graph: Graph) -> None:
    """Replace LSTM, GRU and RNN.

    Raises:
        ModelError: what is not spelled out here: other activations, peepholes, samples of different lengths, computed weights.
    """
    ops: list[Op] = []
    for op in graph.ops:
        ops += _unrolled(op) if op.kind in _CELLS else [op]
    graph.ops = ops


@dataclass(slots=True)
class _Steps:
    """Operators that take the place of one."""

    op: Op
    ops: list[Op] = field(default_factory=list)

    def add(self, kind: str, inputs: list[Tensor], shape: tuple[int, ...], **attributes: Any) -> Tensor:
        return self.split(kind, inputs, [shape], **attributes)[0]

    def split(self, kind: str, inputs: list[Tensor], shapes: list[tuple[int, ...]], **attributes: Any) -> list[Tensor]:
        name = f"{self.op.name}_{kind}_{len(self.ops)}"
        made = [Tensor(f"{name}_{i}" if i else name, shape, "float32") for i, shape in enumerate(shapes)]
        self.ops.append(Op(kind, name, list(inputs), made, attributes))
        return made

    def constant(self, data: Array, hint: str) -> Tensor:
        array = np.ascontiguousarray(data, np.float32)
        return Tensor(f"{self.op.name}_{hint}", array.shape, "float32", array)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x times a constant matrix, plus a vector."""
        inputs = [x, weight] if bias is None else [x, weight, bias]
        return self.add("MatMul", inputs, (*x.shape[:-1], weight.shape[1]))


@dataclass(frozen=True, slots=True)
class _Weights:
    """Of one direction, as matrices from the right: input (I, gates H), state (H, gates H), and their biases (gates H,)."""

    input: Array
    state: Array
    input_bias: Array
    state_bias: Array
    hidden: int


State = tuple[Tensor, ...]
Cell = Callable[[_Steps, Tensor, State, State, _Weights], State]
"""(steps, the input's product, constants, state, weights) -> the next state, the output first."""


def _unrolled(op: Op) -> list[Op]:
    gates, activations, _, _ = _CELLS[op.kind]
    _check(op, activations)
    x = op.need(0)
    length, batch = x.shape[:2]
    hidden = op.need(2).shape[2]
    steps = _Steps(op)
    direction = op.get("direction", "forward")
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    all_outputs, last = [], []
    for place, backward in enumerate(ways):
        weights = _weights(op, place, gates, hidden)
        state = _initial(op, steps, place, batch, hidden)
        outputs, state = _run(op, steps, weights, state, length, backward)
        joined = outputs[0] if length == 1 else steps.add("Concat", outputs, (length, batch, hidden), axis=0)
        all_outputs.append(steps.add("Reshape", [joined], (length, 1, batch, hidden)))
        last.append(state)
    results = [(all_outputs, 1), *(([state[i] for state in last], 0) for i in range(len(last[0])))]
    for output, (parts, axis) in zip(op.outputs, results, strict=False):
        if len(parts) > 1:
            steps.ops.append(Op("Concat", output.name, list(parts), [output], {"axis": axis}))
        else:
            steps.ops.append(Op("Identity", output.name, list(parts), [output]))
    return steps.ops


def _run(
    op: Op, steps: _Steps, weights: _Weights, state: State, length: int, backward: bool
) -> tuple[list[Tensor], State]:
    gates, _, cell, merged = _CELLS[op.kind]
    x, hidden = op.need(0), weights.hidden
    bias = weights.input_bias.copy()
    together = merged(op)
    bias[:together] += weights.state_bias[:together]
    product = steps.linear(x, steps.constant(weights.input, "input"), steps.constant(bias, "bias"))
    parts = [product]
    if length > 1:
        parts = steps.split("Split", [product], [(1, x.shape[1], gates * hidden)] * length, axis=0)
    constants = (steps.constant(weights.state, "state"), steps.constant(weights.state_bias[together:], "state_bias"))
    outputs: list[Tensor] = []
    for part in reversed(parts) if backward else parts:
        state = cell(steps, part, constants, state, weights)
        outputs.append(state[0])
    return (outputs[::-1] if backward else outputs), state


def _check(op: Op, activations: list[str]) -> None:
    given = list(op.get("activations", ()))
    ways = 2 if op.get("direction", "forward") == "bidirectional" else 1
    length = op.need(0).shape[0]
    if given and [name.lower() for name in given] != activations * ways:
        raise refuse(op, f"its activations are {given}", f"use {activations}")
    for name in ("clip", "input_forget", "layout"):
        if op.get(name, 0):
            raise refuse(op, f"it has {name}={op.get(name, 0)}", "export it without")
    lengths = op.input(4)
    if lengths is not None and (lengths.data is None or not (lengths.data == length).all()):
        raise refuse(op, f"{lengths.name!r} gives each sample a length", "export it for samples of one length")
    if op.input(7) is not None:
        raise refuse(op, "it has peepholes", "export it without")
    if length > MOST_STEPS:
        raise refuse(op, f"it has {length} steps", f"at most {MOST_STEPS} are written one by one; give a shorter input")
    for index in (1, 2, 3):
        tensor = op.input(index)
        if tensor is not None and tensor.data is None:
            raise refuse(op, f"{tensor.name!r} is computed", "its weights must be constants in float")


def _weights(op: Op, place: int, gates: int, hidden: int) -> _Weights:
    first, second, bias = (None if t is None else t.data for t in (op.input(1), op.input(2), op.input(3)))
    size = gates * hidden
    both = np.zeros(2 * size, np.float32) if bias is None else bias[place]
    if first is None or second is None:
        raise refuse(op, "it has no weights", "export the model with them")
    return _Weights(first[place].T, second[place].T, both[:size], both[size:], hidden)


def _initial(op: Op, steps: _Steps, place: int, batch: int, hidden: int) -> State:
    """Zeros where no state is given."""
    found = []
    for index in (5, 6) if op.kind == "LSTM" else (5,):
        given = op.input(index)
        if given is None:
            found.append(steps.constant(np.zeros((1, batch, hidden)), f"zeros_{index}"))
        elif given.shape[0] == 1:
            found.append(given)
        else:
            shapes: list[tuple[int, ...]] = [(1, batch, hidden)] * given.shape[0]
            found.append(steps.split("Split", [given], shapes, axis=0)[place])
    return tuple(found)


def _lstm(steps: _Steps, part: Tensor, constants: State, state: State, weights: _Weights) -> State:
    """ONNX, operator LSTM: gates i, o, f, c."""
    h, c = state
    shape = h.shape
    total = steps.add("Add", [part, steps.linear(h, constants[0], None)], part.shape)
    i, o, f, g = steps.split("Split", [total], [shape] * 4, axis=2)
    i, o, f = (steps.add("Sigmoid", [gate], shape) for gate in (i, o, f))
    g = steps.add("Tanh", [g], shape)
    kept, new = steps.add("Mul", [f, c], shape), steps.add("Mul", [i, g], shape)
    c = steps.add("Add", [kept, new], shape)
    return steps.add("Mul", [o, steps.add("Tanh", [c], shape)], shape), c


def _gru(steps: _Steps, part: Tensor, constants: State, state: State, weights: _Weights) -> State:
    """ONNX, operator GRU: gates z, r, h."""
    (h,) = state
    shape, hidden = h.shape, weights.hidden
    xz, xr, xh = steps.split("Split", [part], [shape] * 3, axis=2)
    after = bool(steps.op.get("linear_before_reset", 0))
    gates = steps.linear(h, steps.constant(weights.state[:, : 2 * hidden], "gates"), None)
    hz, hr = steps.split("Split", [gates], [shape] * 2, axis=2)
    z, r = (steps.add("Sigmoid", [steps.add("Add", [x, own], shape)], shape) for x, own in ((xz, hz), (xr, hr)))
    matrix = steps.constant(weights.state[:, 2 * hidden :], "candidate")
    if after:
        own = steps.add("Mul", [r, steps.linear(h, matrix, constants[1])], shape)
    else:
        own = steps.linear(steps.add("Mul", [r, h], shape), matrix, None)
    new = steps.add("Tanh", [steps.add("Add", [xh, own], shape)], shape)
    # (1 - z) new + z h = new + z (h - new)
    change = steps.add("Mul", [z, steps.add("Sub", [h, new], shape)], shape)
    return (steps.add("Add", [new, change], shape),)


def _rnn(steps: _Steps, part: Tensor, constants: State, state: State, weights: _Weights) -> State:
    (h,) = state
    total = steps.add("Add", [part, steps.linear(h, constants[0], None)], h.shape)
    return (steps.add("Tanh", [total], h.shape),)


def _all(op: Op) -> int:
    return 1 << 30


def _of_gru(op: Op) -> int:
    """Where the candidate's own bias is reset too, only those of the other two gates go to the input's."""
    hidden: int = op.need(2).shape[2]
    return 2 * hidden if op.get("linear_before_reset", 0) else 3 * hidden


_CELLS: dict[str, tuple[int, list[str], Cell, Callable[[Op], int]]] = {
    "LSTM": (4, ["sigmoid", "tanh", "tanh"], _lstm, _all),
    "GRU": (3, ["sigmoid", "tanh"], _gru, _of_gru),
    "RNN": (1, ["tanh"], _rnn, _all),
}
"""Operator -> its gates, its activations, one step of it, and how many of the state's biases are added to the input's."""
