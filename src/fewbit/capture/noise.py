"""How much noise each quantized node alone brings to the outputs of an otherwise float model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Balance, Probe
from fewbit.graph.hub import Hub
from fewbit.measure.answers import Views
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]
Array = NDArray[np.float64]
_CHOSEN = "fewbit_chosen"
_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Perturbation:
    """What quantization does at one node: its input's parameters, its weight and bias as integers stand for them (float32,
    undivided), and the parameters of the output that its kernel rounds. None: left as it is.

    runs: the axes over which a kernel finds the range of the input as it runs; None: it does not.
    """

    node: str
    input: QParams | None
    balance: Balance | None
    weight_index: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    output: tuple[str, QParams, Balance | None] | None
    runs: tuple[int, ...] | None = None


def noise_of_nodes(
    hub: Hub,
    perturbations: list[Perturbation],
    feeds: Iterable[Feed],
    *,
    ignore: Collection[str] = (),
    views: Views | None = None,
    threads: int = 1,
    advance: Callable[[int], None] = lambda _: None,
    heard: Callable[[str, int, int, Array, Array], None] = lambda *_: None,
) -> dict[str, float]:
    """Node → noise-to-signal ratio (power) at the output that suffers most, when this node alone is quantized.

    ignore: outputs that do not count. views: what outputs are turned into before they are judged. heard: called with the
    node, the numbers of the sample and the output, the output as it is, and its error with the node quantized.

    In one graph every node is followed by an `If` that computes it again, as quantized, where it is the chosen one, so that
    one session serves all nodes and a run costs little more than a float one.
    """
    probe = Probe(hub)
    names = [str(o.name) for o in probe.graph.outputs]
    chosen = ir.Value(name=_CHOSEN, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    probe.graph.inputs.append(chosen)
    nodes = {str(n.name): n for n in probe.hub.nodes()}
    for index, perturbation in enumerate(perturbations):
        is_chosen = probe.node("Equal", [chosen, probe.constant(np.array(index, np.int64))])
        _perturb(probe, nodes[perturbation.node], perturbation, is_chosen)
    probe.graph.sort()
    # With its integer kernels the runtime would quantize what a pair of Q and DQ stands beside, such as a float weight.
    session = open_session(probe.hub.model, threads=threads, config=SIMULATION)
    seen = [(views or {}).get(name, np.asarray) for name in names]

    def judged(outputs: list[NDArray[Any]]) -> list[Array]:
        return [view(array).astype(np.float64) for view, array in zip(seen, outputs, strict=True)]

    noise = np.zeros((len(perturbations), len(session.outputs)))
    signal = np.zeros(len(session.outputs))
    for sample, feed in enumerate(feeds):
        real = judged(session.run({**feed, _CHOSEN: np.array(_NONE)}))
        signal += [float((a * a).sum()) for a in real]
        for index in range(len(perturbations)):
            given = judged(session.run({**feed, _CHOSEN: np.array(index)}))
            errors = [b - a for a, b in zip(real, given, strict=True)]
            noise[index] += [float((error**2).sum()) for error in errors]
            for output, error in enumerate(errors):
                heard(perturbations[index].node, sample, output, real[output], error)
            advance(1)
    counted = [name not in ignore for name in names]
    ratios = (noise / np.maximum(signal, 1e-30))[:, counted]
    return {p.node: float(ratios[i].max()) for i, p in enumerate(perturbations)}


def _perturb(probe: Probe, node: ir.Node, p: Perturbation, is_chosen: ir.Value) -> None:
    """Where the node is chosen, its readers get what it makes when quantized."""
    last = node if p.output is None else probe.values[p.output[0]].producer()  # the activation that its kernel absorbs
    assert last is not None and node.inputs[0] is not None
    value = last.outputs[0]
    readers = list(value.uses())
    own = len(probe.graph)
    inputs = list(node.inputs)
    if p.input is not None:
        inputs[0] = probe.rounded(node.inputs[0], p.input, p.balance)
    if p.runs is not None:
        inputs[0] = probe.rounded_as_it_runs(node.inputs[0], p.runs)
    inputs[p.weight_index] = probe.constant(p.weight)
    if p.bias is not None and node.op_type in ("Conv", "Gemm"):
        inputs = [*inputs[:2], probe.constant(p.bias)]
    output = probe.again(node, inputs)
    if last is not node:
        output = probe.again(last, [output if v is node.outputs[0] else v for v in last.inputs])
    if p.output is not None:
        output = probe.rounded(output, *p.output[1:])
    quantized = _branch(probe, own, output)
    real = _branch(probe, own, probe.node("Identity", [value]))
    mixed = probe.node("If", [is_chosen], then_branch=quantized, else_branch=real)
    mixed.type, mixed.shape = value.type, value.shape
    for reader, position in readers:
        reader.replace_input_with(position, mixed)
    for position, graph_output in enumerate(probe.graph.outputs):
        if graph_output is value:
            probe.graph.outputs[position] = mixed


def _branch(probe: Probe, first: int, output: ir.Value) -> ir.Graph:
    """The nodes from the first on, taken out of the graph, as a graph of their own."""
    nodes = list(probe.graph)[first:]
    probe.graph.remove(nodes)
    return ir.Graph([], [output], nodes=nodes, name=f"{output.name}_branch")
