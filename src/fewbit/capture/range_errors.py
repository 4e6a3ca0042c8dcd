"""What candidates for the range of an edge do to the outputs of the nodes that read it, measured in one float pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Balance, Probe
from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A node that reads an edge: what stands for its weight once that is rounded (None: it has none), and the axis of its
    output along which a bias will take off the mean error (None: nothing will)."""

    node: str
    weight: tuple[int, NDArray[np.float32]] | None = None
    centred: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An edge, the parameters that it may get (by the method that gives them), its balance factors, and the nodes whose
    outputs count.

    between: nodes on the way from the edge to the readers, in topological order.
    """

    edge: str
    candidates: Mapping[str, QParams]
    balance: Balance | None
    readers: Sequence[Reader]
    between: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ReaderError:
    """Of one reader and every sample and candidate: mean error of each channel (S, K, C), mean square (S, K), and the mean
    square of the float output (S,). Where nothing is centred there is one channel with mean 0."""

    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    signal: NDArray[np.float64]


def range_errors(
    hub: Hub, questions: Sequence[Question], feeds: Iterable[Feed], *, threads: int = 1
) -> dict[str, list[ReaderError]]:
    """The errors at the readers of every edge, from one float pass in which the runtime quantizes the edges itself: each of
    them alone, and the weight of the reader with it.

    Args:
        questions: edges with parameters of at most 8 bits. feeds: a few samples.

    Returns:
        edge → one entry a reader, in the order of the question.
    """
    probe = Probe(hub)
    nodes = {str(node.name): node for node in probe.hub.nodes()}
    by_edge = {question.edge: question for question in questions}
    outputs: list[ir.Value] = []
    asked: list[tuple[str, Reader, int]] = []
    for name in probe.deepest_first(by_edge):
        stand_ins = _stand_ins(probe, nodes, by_edge[name])
        for reader in by_edge[name].readers:
            outputs += _ask(probe, nodes[reader.node], reader, stand_ins)
            asked.append((name, reader, len(stand_ins)))
    if not asked:
        return {}
    session = open_session(probe.model(outputs), threads=threads, config=SIMULATION)
    fetched = [np.stack(parts).astype(np.float64) for parts in zip(*map(session.run, feeds), strict=True)]
    found: dict[str, list[ReaderError]] = {name: [] for name in by_edge}
    remaining = iter(fetched)
    for name, reader, candidates in asked:
        signal = next(remaining)
        pairs = [(next(remaining), next(remaining)) for _ in range(candidates)]
        square = np.stack([power for _, power in pairs], 1)
        mean = np.stack([mean.reshape(len(signal), -1) for mean, _ in pairs], 1)
        if reader.centred is None:
            mean = np.zeros((*square.shape, 1))
        found[name].append(ReaderError(mean, square, signal))
    return found


def _stand_ins(probe: Probe, nodes: Mapping[str, ir.Node], question: Question) -> list[dict[ir.Value, ir.Value]]:
    """For each candidate, what takes the place of the edge and of what lies between it and its readers."""
    found = []
    for params in question.candidates.values():
        value = probe.values[question.edge]
        stands = {value: probe.rounded(value, params, question.balance)}
        for name in question.between:
            stands[nodes[name].outputs[0]] = probe.again(nodes[name], _inputs(nodes[name], stands))
        found.append(stands)
    return found


def _ask(
    probe: Probe, node: ir.Node, reader: Reader, stand_ins: Sequence[Mapping[ir.Value, ir.Value]]
) -> list[ir.Value]:
    """The power of a reader's float output, then mean and power of its error for each candidate."""
    real = node.outputs[0]
    outputs = [_power(probe, real)]
    weight = None if reader.weight is None else probe.constant(reader.weight[1])
    for stands in stand_ins:
        inputs = _inputs(node, stands)
        if weight is not None and reader.weight is not None:
            inputs[reader.weight[0]] = weight
        error = probe.node("Sub", [probe.again(node, inputs), real])
        power = _power(probe, error)
        if reader.centred is None or real.shape is None:
            outputs += [power, power]
        else:
            rank = len(real.shape)
            others = [axis for axis in range(rank) if axis != reader.centred % rank]
            outputs += [probe.reduce("ReduceMean", error, others), power]
    return outputs


def _inputs(node: ir.Node, stands: Mapping[ir.Value, ir.Value]) -> list[ir.Value | None]:
    return [None if value is None else stands.get(value, value) for value in node.inputs]


def _power(probe: Probe, value: ir.Value) -> ir.Value:
    return probe.node("ReduceMean", [probe.node("Mul", [value, value])], keepdims=0)  # over all axes
