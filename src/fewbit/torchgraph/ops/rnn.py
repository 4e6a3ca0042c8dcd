"""Recurrent layers with everything that ONNX gives them: directions, lengths, peepholes, clips, activations, layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fewbit.torchgraph.node import Node, Row

Activation = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "relu": (torch.relu, ()),
    "softsign": (functional.softsign, ()),
    "softplus": (functional.softplus, ()),
    "leakyrelu": (functional.leaky_relu, (0.01,)),
    "thresholdedrelu": (lambda x, alpha: torch.where(x >= alpha, x, torch.zeros_like(x)), (1.0,)),
    "elu": (functional.elu, (1.0,)),
    "affine": (lambda x, alpha, beta: alpha * x + beta, (1.0, 0.0)),
    "scaledtanh": (lambda x, alpha, beta: alpha * torch.tanh(beta * x), (1.0, 1.0)),
    "hardsigmoid": (lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1), (0.2, 0.5)),
}
"""Function and the defaults of its alpha and beta, where it has them (those of the operators of that name)."""


class _Cell:
    """One direction of a layer.

    x: (time, batch, inputs). w: (gates · hidden, inputs). r: (gates · hidden, hidden). b: (2 · gates · hidden), those of w and
    of r, or None. functions: the activations of the gates, in ONNX's order.
    """

    def __init__(self, node: Node, w: Tensor, r: Tensor, b: Tensor | None, functions: Sequence[Activation]) -> None:
        self.node, self.w, self.r = node, w, r
        self.functions = functions
        self.b_input: Tensor | None = None
        self.b_state: Tensor | None = None
        if b is not None:
            self.b_input, self.b_state = b.chunk(2)
        self.clip = node.get("clip")

    def bound(self, x: Tensor) -> Tensor:
        """What goes into an activation: within ±clip, where there is one."""
        return x if self.clip is None else torch.clamp(x, -self.clip, self.clip)

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs' share of all gates at all times."""
        return functional.linear(x, self.w, self.b_input)

    def states(self, h: Tensor) -> Tensor:
        return functional.linear(h, self.r, self.b_state)

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The next state (the output first) from the inputs' share of the gates and the state before."""
        (h,) = state
        return (self.functions[0](self.bound(x + self.states(h))),)


class _Gru(_Cell):
    """z, r, h: h' = g(Wx + r ∘ (Rh + b)) with `linear_before_reset`, else g(Wx + R(r ∘ h) + b)."""

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = state
        f, g = self.functions
        size = h.shape[-1]
        x_gates, x_new = x.split([2 * size, size], -1)
        r_gates, r_new = self.r.split([2 * size, size])
        b_gates, b_new = (None, None) if self.b_state is None else self.b_state.split([2 * size, size])
        z, reset = f(self.bound(x_gates + functional.linear(h, r_gates, b_gates))).chunk(2, -1)
        if self.node["linear_before_reset"]:
            new = g(self.bound(x_new + reset * functional.linear(h, r_new, b_new)))
        else:
            new = g(self.bound(x_new + functional.linear(reset * h, r_new, b_new)))
        return ((1 - z) * new + z * h,)


class _Lstm(_Cell):
    """i, o, f, c, with peepholes from the cell to the gates i, o and f; `input_forget` couples f to i.

    As in ONNX Runtime, the cell itself is not clipped on its way to the output.
    """

    peepholes: Sequence[Tensor] | None = None

    def step(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        f, g, out = self.functions
        i_in, o_in, f_in, c_in = (x + self.states(h)).chunk(4, -1)
        if self.peepholes is not None:
            i_in, f_in = i_in + self.peepholes[0] * c, f_in + self.peepholes[2] * c
        i = f(self.bound(i_in))
        forget = 1 - i if self.node["input_forget"] else f(self.bound(f_in))
        c = forget * c + i * g(self.bound(c_in))
        o_in = o_in if self.peepholes is None else o_in + self.peepholes[1] * c
        return f(self.bound(o_in)) * out(c), c


def _run(cell: _Cell, x: Tensor, state: tuple[Tensor, ...], alive: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All outputs (time, batch, hidden) and the last state. Where a sequence is over its state stays and it puts out 0."""
    outputs = []
    for t, step_in in enumerate(cell.inputs(x)):
        new = cell.step(step_in, state)
        if alive is None:
            outputs.append(new[0])
            state = new
        else:
            outputs.append(torch.where(alive[t], new[0], torch.zeros_like(new[0])))
            state = tuple(torch.where(alive[t], n, o) for n, o in zip(new, state, strict=True))
    return torch.stack(outputs), state


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The steps of each sequence backwards; what lies beyond its length stays where it is."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(0, places.unsqueeze(-1).expand_as(x))


def _functions(node: Node, default: Sequence[str], directions: int) -> list[list[Activation]]:
    """The activations of each direction; alphas and betas go to those that have one, in order."""
    names = [name.lower() for name in node.get("activations") or [*default] * directions]
    alphas, betas = iter(node.get("activation_alpha") or ()), iter(node.get("activation_beta") or ())
    made: list[Activation] = []
    for name in names:
        run, defaults = _ACTIVATIONS[name]
        values = [next(given, value) for given, value in zip((alphas, betas), defaults, strict=False)]
        made.append(partial(_with, run, values))
    count = len(default)
    return [made[count * d : count * (d + 1)] for d in range(directions)]


def _with(run: Callable[..., Tensor], values: Sequence[float], x: Tensor) -> Tensor:
    return run(x, *values)


def _layer(
    node: Node,
    kind: type[_Cell],
    default: Sequence[str],
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Y (time, directions, batch, hidden) and the last states (directions, batch, hidden); `layout` 1 has batch first."""
    batch_first = bool(node.get("layout", 0))
    x = x.transpose(0, 1) if batch_first else x
    time, batch = x.shape[:2]
    lengths = None if lengths is None else lengths.long()
    alive = None if lengths is None else (torch.arange(time, device=x.device).unsqueeze(1) < lengths).unsqueeze(-1)
    outputs, states = [], []
    for d, functions in enumerate(_functions(node, default, w.shape[0])):
        backward = node["direction"] == "reverse" or d == 1
        cell = kind(node, w[d], r[d], None if b is None else b[d], functions)
        if peepholes is not None and isinstance(cell, _Lstm):
            cell.peepholes = peepholes[d].chunk(3)
        begin = tuple(
            x.new_zeros(batch, r.shape[-1]) if s is None else (s[:, d] if batch_first else s[d]) for s in initial
        )
        y, last = _run(cell, _reverse(x, lengths) if backward else x, begin, alive)
        outputs.append(_reverse(y, lengths) if backward else y)
        states.append(last)
    y = torch.stack(outputs, 1)
    ends = tuple(torch.stack(parts, 1 if batch_first else 0) for parts in zip(*states, strict=True))
    return (y.permute(2, 0, 1, 3) if batch_first else y, *ends)


def _rnn(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    b, lengths, h = _padded(rest, 3)
    return _layer(node, _Cell, ("Tanh",), x, w, r, b, lengths, (h,))


def _gru(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    b, lengths, h = _padded(rest, 3)
    return _layer(node, _Gru, ("Sigmoid", "Tanh"), x, w, r, b, lengths, (h,))


def _lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    b, lengths, h, c, peepholes = _padded(rest, 5)
    return _layer(node, _Lstm, ("Sigmoid", "Tanh", "Tanh"), x, w, r, b, lengths, (h, c), peepholes)


def _padded(values: Sequence[Tensor | None], count: int) -> list[Tensor | None]:
    return [*values, *[None] * (count - len(values))]


ROWS: dict[str, Row] = {
    "RNN": Row(_rnn),
    "GRU": Row(_gru),
    "LSTM": Row(_lstm),
}
