"""How much noise each quantized node alone brings to the outputs of an otherwise float model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.hub import Hub
from fewbit.runtimes.onnxruntime import open_session
from fewbit.spec import QParams

Feed = Mapping[str, NDArray[Any]]
_SWITCHES = "fewbit_switches"


@dataclass(frozen=True, slots=True, eq=False)
class Perturbation:
    """What quantization does at one node: its input's parameters, its weight and bias as integers stand for them (float32,
    undivided), and the parameters of the output that its kernel rounds. None: left as it is."""

    node: str
    input: QParams | None
    balance: tuple[int, NDArray[np.float32]] | None
    weight_index: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    output: tuple[str, QParams, tuple[int, NDArray[np.float32]] | None] | None


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
    copy = hub.clone()
    names = [str(o.name) for o in copy.graph.outputs]
    build = _Builder(copy)
    for index, perturbation in enumerate(perturbations):
        build.add(index, perturbation)
    copy.graph.sort()
    session = open_session(copy.model, threads=threads)
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


class _Builder:
    def __init__(self, hub: Hub) -> None:
        self.hub, self.graph = hub, hub.graph
        self.nodes = {str(n.name): n for n in hub.nodes()}
        self.values = {str(v.name): v for v in hub.values()}
        self.count = 0
        self.switches = ir.Value(name=_SWITCHES, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["switches"]))
        self.graph.inputs.append(self.switches)

    def add(self, index: int, p: Perturbation) -> None:
        node = self.nodes[p.node]
        switch = self.node("Gather", [self.switches, self.constant(np.array(index, np.int64))], axis=0)
        inputs = list(node.inputs)
        assert inputs[0] is not None
        if p.input is not None:
            inputs[0] = self.rounded(inputs[0], p.input, p.balance)
        inputs[p.weight_index] = self.constant(p.weight)
        if p.bias is not None and node.op_type in ("Conv", "Gemm"):
            inputs = [*inputs[:2], self.constant(p.bias)]
        attributes = {a.name: a.value for a in node.attributes.values()}
        output = self.node(node.op_type, inputs, **attributes)
        output.type, output.shape = node.outputs[0].type, node.outputs[0].shape
        if p.output is not None and p.output[0] == node.outputs[0].name:
            output = self.rounded(output, *p.output[1:])
        self.blend(node.outputs[0], output, switch)
        if p.output is not None and p.output[0] != node.outputs[0].name:  # that of the activation it absorbs
            value = self.values[p.output[0]]
            readers = list(value.uses())
            self.blend(value, self.rounded(value, *p.output[1:]), switch, readers)

    def blend(self, value: ir.Value, other: ir.Value, switch: ir.Value, readers: list[Any] | None = None) -> None:
        """The readers of a value (all, unless given) get value + switch · (other - value)."""
        readers = list(value.uses()) if readers is None else readers
        difference = self.node("Sub", [other, value])
        mixed = self.node("Add", [value, self.node("Mul", [switch, difference])])
        mixed.type, mixed.shape = value.type, value.shape
        for reader, position in readers:
            reader.replace_input_with(position, mixed)
        for position, output in enumerate(self.graph.outputs):
            if output is value:
                self.graph.outputs[position] = mixed

    def rounded(self, value: ir.Value, params: QParams, balance: tuple[int, NDArray[np.float32]] | None) -> ir.Value:
        factors = None
        if balance is not None and value.shape is not None:
            axis, vector = balance
            rank = len(value.shape)
            shape = [-1 if a == axis % rank else 1 for a in range(rank)]
            factors = self.constant(vector.astype(np.float32).reshape(shape))
            value = self.node("Div", [value, factors])
        scale = self.constant(np.asarray(params.scale, np.float32).reshape(()))
        zero = self.constant(np.asarray(params.zero_point).astype(params.spec.dtype.storage).reshape(()))
        result = self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, scale, zero]), scale, zero])
        return result if factors is None else self.node("Mul", [result, factors])

    def constant(self, array: NDArray[Any]) -> ir.Value:
        self.count += 1
        tensor = ir.tensor(array, name=f"fewbit_constant_{self.count}")
        value = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def node(self, op: str, inputs: list[ir.Value | None] | list[ir.Value], **attributes: Any) -> ir.Value:
        self.count += 1
        made = ir.node(op, inputs, attributes=attributes, name=f"fewbit_node_{self.count}")
        made.outputs[0].name = f"fewbit_value_{self.count}"
        self.graph.append(made)
        return made.outputs[0]
