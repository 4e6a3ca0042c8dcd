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
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]
_SWITCHES = "fewbit_switches"


@dataclass(frozen=True, slots=True, eq=False)
class Perturbation:
    """What quantization does at one node: its input's parameters, its weight and bias as integers stand for them (float32,
    undivided), and the parameters of the output that its kernel rounds. None: left as it is."""

    node: str
    input: QParams | None
    balance: Balance | None
    weight_index: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    output: tuple[str, QParams, Balance | None] | None


def noise_of_nodes(
    hub: Hub,
    perturbations: list[Perturbation],
    feeds: Iterable[Feed],
    *,
    ignore: Collection[str] = (),
    threads: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, float]:
    """Node → noise-to-signal ratio (power) at the output that suffers most, when this node alone is quantized.

    ignore: outputs that do not count.

    One graph computes every node both ways and a vector of switches chooses, so that one session serves all nodes.
    """
    probe = Probe(hub)
    names = [str(o.name) for o in probe.graph.outputs]
    chosen = ir.Value(name=_SWITCHES, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["switches"]))
    probe.graph.inputs.append(chosen)
    nodes = {str(n.name): n for n in probe.hub.nodes()}
    for index, perturbation in enumerate(perturbations):
        switch = probe.node("Gather", [chosen, probe.constant(np.array(index, np.int64))], axis=0)
        _perturb(probe, nodes[perturbation.node], perturbation, switch)
    probe.graph.sort()
    session = open_session(probe.hub.model, threads=threads, config=SIMULATION)
    count = len(perturbations)
    noise = np.zeros((count, len(session.outputs)))
    signal = np.zeros(len(session.outputs))
    for feed in feeds:
        real = [a.astype(np.float64) for a in session.run({**feed, _SWITCHES: np.zeros(count, np.float32)})]
        signal += [float((a * a).sum()) for a in real]
        for index in range(count):
            switches = np.zeros(count, np.float32)
            switches[index] = 1.0
            given = session.run({**feed, _SWITCHES: switches})
            noise[index] += [float(((a - b) ** 2).sum()) for a, b in zip(real, given, strict=True)]
            advance(1)
    counted = [name not in ignore for name in names]
    ratios = (noise / np.maximum(signal, 1e-30))[:, counted]
    return {p.node: float(ratios[i].max()) for i, p in enumerate(perturbations)}


def _perturb(probe: Probe, node: ir.Node, p: Perturbation, switch: ir.Value) -> None:
    """Compute a node both ways; its readers get the one that the switch chooses."""
    inputs = list(node.inputs)
    assert inputs[0] is not None
    if p.input is not None:
        inputs[0] = probe.rounded(inputs[0], p.input, p.balance)
    inputs[p.weight_index] = probe.constant(p.weight)
    if p.bias is not None and node.op_type in ("Conv", "Gemm"):
        inputs = [*inputs[:2], probe.constant(p.bias)]
    output = probe.node(node.op_type, inputs, **{a.name: a.value for a in node.attributes.values()})
    output.type, output.shape = node.outputs[0].type, node.outputs[0].shape
    if p.output is not None and p.output[0] == node.outputs[0].name:
        output = probe.rounded(output, *p.output[1:])
    _blend(probe, node.outputs[0], output, switch, list(node.outputs[0].uses()))
    if p.output is not None and p.output[0] != node.outputs[0].name:  # that of the activation it absorbs
        value = probe.values[p.output[0]]
        readers = list(value.uses())
        _blend(probe, value, probe.rounded(value, *p.output[1:]), switch, readers)


def _blend(probe: Probe, value: ir.Value, other: ir.Value, switch: ir.Value, readers: list[Any]) -> None:
    """These readers of a value get value + switch · (other - value)."""
    difference = probe.node("Sub", [other, value])
    mixed = probe.node("Add", [value, probe.node("Mul", [switch, difference])])
    mixed.type, mixed.shape = value.type, value.shape
    for reader, position in readers:
        reader.replace_input_with(position, mixed)
    for position, output in enumerate(probe.graph.outputs):
        if output is value:
            probe.graph.outputs[position] = mixed
