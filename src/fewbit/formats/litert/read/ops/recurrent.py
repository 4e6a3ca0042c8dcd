"""Recurrent layers. Their state is a variable of the file; here each run begins with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.formats.litert import schema
from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.file import Operator
from fewbit.formats.litert.read.ops.row import Row

_ONNX_ORDER = (0, 3, 1, 2)
"""LiteRT's gates are input, forget, cell, output; ONNX's input, output, forget, cell."""

_STATELESS = "keeps a state from run to run in the file; here every run begins with zeros"


@dataclass(frozen=True, slots=True)
class _Places:
    """Which inputs of the operator are what of one direction; peepholes are for input, forget and output."""

    weights: int
    recurrent: int
    peepholes: int
    biases: int
    projection: int
    states: int


_FORWARD = _Places(1, 5, 9, 12, 16, 18)
_BOTH = (_Places(1, 5, 9, 12, 16, 35), _Places(18, 22, 26, 29, 33, 37))
_LAYER_NORM = (20, 21, 22, 23)
_AUXILIARY = range(39, 48)


def _unidirectional_lstm(b: Builder, op: Operator, options: Any) -> None:
    if any(b.given(op, place) is not None for place in _LAYER_NORM):
        raise b.refuse(op, "normalizes inside of its cell, which has no counterpart")
    if options.diagonalRecurrentTensors:
        raise b.refuse(op, "has diagonal recurrent weights, which have no counterpart")
    value = _lstm(b, op, options, _time_first(b, op, options), _FORWARD, "forward")
    b.put(op.outputs[0], _as_given(b, options, value))


def _bidirectional_lstm(b: Builder, op: Operator, options: Any) -> None:
    if any(b.given(op, place) is not None for place in _AUXILIARY):
        raise b.refuse(op, "has an auxiliary input, which has no counterpart")
    data = _time_first(b, op, options)
    pairs = zip(_BOTH, ("forward", "reverse"), strict=True)
    both = [_as_given(b, options, _lstm(b, op, options, data, places, way)) for places, way in pairs]
    if options.mergeOutputs:
        b.put(op.outputs[0], b.emit("Concat", both, axis=-1))
        return
    if len(op.outputs) < 2:
        raise b.refuse(op, "has one output for two directions")
    for index, value in zip(op.outputs, both, strict=False):
        b.put(index, value)


def _lstm(b: Builder, op: Operator, options: Any, data: ir.Value, at: _Places, direction: str) -> ir.Value:
    """Outputs [T, N, U] of one direction."""
    if b.given(op, at.projection) is not None:
        raise b.refuse(op, "projects its output, which has no counterpart")
    sizes = b.sizes(op.inputs[at.recurrent + 1]) if b.given(op, at.recurrent + 1) is not None else None
    if sizes is None or len(sizes) != 2 or not sizes[1]:
        raise b.refuse(op, f"has recurrent weights of shape {sizes}")
    if options.cellClip > 0:
        b.notes.append(f"{op.name} {op.index}: its cell state is not clipped at {options.cellClip:g} here")
    b.notes.append(f"{op.name} {op.index} {_STATELESS}")
    units = sizes[1]
    inputs = _gates(b, op, at.weights, units, 2)
    recurrent = _gates(b, op, at.recurrent, units, 2)
    biases = _gates(b, op, at.biases, units, 1)
    nothing = np.zeros(4 * units, np.float32)
    peepholes = None
    if b.given(op, at.peepholes + 1) is not None:
        found = [b.given(op, at.peepholes + i) for i in range(3)]
        forget = b.real(op.inputs[at.peepholes + 1])
        parts = [forget if i is None else b.real(i) for i in (found[0], found[2], found[1])]
        if found[0] is None:
            parts[0] = b.emit("Neg", [forget])
        peepholes = b.emit("Unsqueeze", [b.emit("Concat", parts, axis=0), [0]])
    states = [_state(b, op, at.states), _state(b, op, at.states + 1)]
    fused = _activation(b, op, options)
    made = b.emit_many(
        "LSTM",
        [
            data,
            b.emit("Unsqueeze", [inputs, [0]]),
            b.emit("Unsqueeze", [recurrent, [0]]),
            b.emit("Unsqueeze", [b.emit("Concat", [biases, nothing], axis=0), [0]]),
            None,
            *states,
            peepholes,
        ],
        1,
        hidden_size=units,
        direction=direction,
        activations=["Sigmoid", fused, fused],
    )
    return b.emit("Squeeze", [made[0], [1]])


def _gates(b: Builder, op: Operator, first: int, units: int, rank: int) -> ir.Value:
    """Weights or biases of all gates, one above the other. Without an input gate it is what the forget gate leaves: the
    sigmoid of the negative."""
    parts: list[ir.Value | None] = []
    for place in range(first, first + 4):
        index = b.given(op, place)
        if index is not None and (b.rank(index) != rank or (b.sizes(index) or (0,))[0] != units):
            raise b.refuse(op, f"has the shape {b.sizes(index)} at input {place} for {units} units")
        parts.append(None if index is None else b.weight(index, list(range(rank))))
    if parts[0] is None and parts[1] is not None:
        parts[0] = b.emit("Neg", [parts[1]])
    if None in parts:
        raise b.refuse(op, "lacks the weights or biases of a gate")
    return b.emit("Concat", [parts[i] for i in _ONNX_ORDER], axis=0)


def _state(b: Builder, op: Operator, place: int) -> ir.Value | None:
    """The state to begin with; a variable begins with zeros, as ONNX does without one."""
    index = b.given(op, place)
    if index is None or b.tensor(index).is_variable:
        return None
    return b.emit("Unsqueeze", [b.real(index), [0]])


def _unidirectional_rnn(b: Builder, op: Operator, options: Any) -> None:
    """Inputs: data, weights [U, I], recurrent weights [U, U], bias, state."""
    sizes = b.sizes(op.inputs[2])
    if sizes is None or len(sizes) != 2 or not sizes[1]:
        raise b.refuse(op, f"has recurrent weights of shape {sizes}")
    b.notes.append(f"{op.name} {op.index} {_STATELESS}")
    weights: Sequence[ir.Value] = [b.weight(op.inputs[place], [0, 1]) for place in (1, 2)]
    bias = b.emit("Concat", [b.real(op.inputs[3]), np.zeros(sizes[1], np.float32)], axis=0)
    made = b.emit_many(
        "RNN",
        [
            _time_first(b, op, options),
            *[b.emit("Unsqueeze", [value, [0]]) for value in (*weights, bias)],
            None,
            _state(b, op, 4),
        ],
        1,
        hidden_size=sizes[1],
        activations=[_activation(b, op, options)],
    )
    b.put(op.outputs[0], _as_given(b, options, b.emit("Squeeze", [made[0], [1]])))


def _activation(b: Builder, op: Operator, options: Any) -> str:
    name = schema.ACTIVATIONS.get(options.fusedActivationFunction)
    found = {"TANH": "Tanh", "RELU": "Relu"}.get(name or "")
    if found is None:
        raise b.refuse(op, f"has the activation {name}, and tanh and relu are known")
    return found


def _time_first(b: Builder, op: Operator, options: Any) -> ir.Value:
    if b.rank(op.inputs[0]) != 3:
        raise b.refuse(op, f"has an input of {b.rank(op.inputs[0])} axes: there have to be 3")
    value = b.real(op.inputs[0])
    return value if options.timeMajor else b.emit("Transpose", [value], perm=[1, 0, 2])


def _as_given(b: Builder, options: Any, value: ir.Value) -> ir.Value:
    return value if options.timeMajor else b.emit("Transpose", [value], perm=[1, 0, 2])


ROWS: dict[str, Row] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Row(_unidirectional_lstm, "UnidirectionalSequenceLSTMOptions", 20, needed=1),
    "BIDIRECTIONAL_SEQUENCE_LSTM": Row(_bidirectional_lstm, "BidirectionalSequenceLSTMOptions", 39, needed=1),
    "UNIDIRECTIONAL_SEQUENCE_RNN": Row(_unidirectional_rnn, "SequenceRNNOptions", 5),
}
