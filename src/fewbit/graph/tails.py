"""Find what comes in and goes out in an unusual way: recurrent states, caches, joined detection heads, tied weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.ops import category_of, info_of, kind_of, weight_of


@dataclass(frozen=True, slots=True)
class State:
    """A graph input that carries what an earlier run left.

    kind: `recurrent` for an initial state of LSTM, GRU or RNN, `cache` for what new numbers are appended to.
    output: the graph output that gives its next value, if it was found.
    node: the recurrent layer, or the Concat.
    """

    input: str
    output: str | None
    kind: Literal["recurrent", "cache"]
    node: str


@dataclass(frozen=True, slots=True)
class DetectionTail:
    """A graph output that joins the results of several heads: boxes and scores of different ranges in one tensor.

    concats: the Concats on the way, first to last.
    heads: the heavy nodes whose results are joined.
    nodes: everything between the heads and the output.
    """

    output: str
    concats: tuple[ir.Node, ...]
    heads: tuple[ir.Node, ...]
    nodes: tuple[ir.Node, ...]


_TAIL_CATEGORIES = frozenset(("passthrough", "elementwise", "activation", "shape"))


def state_inputs(hub: Hub) -> list[State]:
    """The graph inputs that are states, in the order of the graph's inputs."""
    found: dict[str, State] = {}
    for node in hub.nodes():
        if kind_of(node) == "recurrent":
            for index, output in ((5, 1), (6, 2)):
                source = _origin(node.inputs[index]) if index < len(node.inputs) else None
                if source is not None and source.is_graph_input():
                    after = _destination(node.outputs[output]) if output < len(node.outputs) else None
                    found.setdefault(str(source.name), State(str(source.name), after, "recurrent", str(node.name)))
        elif node.op_type == "Concat":
            after = _destination(node.outputs[0])
            for value in node.inputs:
                source = _origin(value)
                if source is not None and source.is_graph_input() and after is not None and len(node.inputs) > 1:
                    found.setdefault(str(source.name), State(str(source.name), after, "cache", str(node.name)))
    order = {v.name: i for i, v in enumerate(hub.graph.inputs)}
    return sorted(found.values(), key=lambda state: order[state.input])


def _origin(value: ir.Value | None) -> ir.Value | None:
    """Where a value comes from when moves alone are undone."""
    while value is not None and (node := value.producer()) is not None:
        if info_of(node).kind not in ("movement", "gather") and node.op_type != "Cast":
            break
        value = node.inputs[0]
    return value


def _destination(value: ir.Value) -> str | None:
    """The graph output that a value reaches by moves alone."""
    seen: set[ir.Value] = set()
    ahead = [value]
    while ahead:
        value = ahead.pop()
        if value.is_graph_output():
            return str(value.name)
        seen.add(value)
        for use in value.uses():
            if info_of(use.node).kind == "movement" and use.idx == 0 and use.node.outputs[0] not in seen:
                ahead.append(use.node.outputs[0])
    return None


def detection_tails(hub: Hub) -> list[DetectionTail]:
    """Graph outputs reached from two or more heavy nodes by moves and arithmetic alone, with a Concat between."""
    order = {node: i for i, node in enumerate(hub.nodes())}
    tails = []
    for output in hub.graph.outputs:
        nodes: set[ir.Node] = set()
        heads: set[ir.Node] = set()
        ahead = [output]
        while ahead:
            node = ahead.pop().producer()
            if node is None or node in nodes or node in heads:
                continue
            if category_of(node) not in _TAIL_CATEGORIES:
                heads.add(node)
                continue
            nodes.add(node)
            ahead += [v for v in node.inputs if v is not None]
        heavy = [
            node for node in _sorted(heads, order.get) if weight_of(node) is not None and kind_of(node) != "embedding"
        ]
        concats = [node for node in _sorted(nodes, order.get) if node.op_type == "Concat" and len(node.inputs) > 1]
        if len(heavy) > 1 and concats and len(heavy) == len(heads):
            tails.append(
                DetectionTail(str(output.name), tuple(concats), tuple(heavy), tuple(_sorted(nodes, order.get)))
            )
    return tails


def _sorted(nodes: Iterable[ir.Node], position: Callable[[ir.Node], int | None]) -> list[ir.Node]:
    return sorted(nodes, key=lambda node: position(node) or 0)


def tied_weights(hub: Hub) -> dict[str, list[ir.Node]]:
    """Weights that several nodes read, by name, with the nodes that read them as their weight or otherwise."""
    tied: dict[str, list[ir.Node]] = {}
    for node in hub.nodes():
        weight = weight_of(node)
        if weight is not None and weight.name not in tied:
            readers = list(dict.fromkeys(use.node for use in weight.value.uses()))
            if len(readers) > 1:
                tied[weight.name] = readers
    return tied


def softmax_inputs(hub: Hub) -> list[ir.Value]:
    """What the Softmaxes read: attention scores, or the logits of a classifier."""
    return [n.inputs[0] for n in hub.nodes() if kind_of(n) == "softmax" and n.inputs[0] is not None]
