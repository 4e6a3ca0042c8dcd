"""A model run piece by piece, in float and as quantized so far, with what later pieces need kept between.

Rounding goes layer by layer, and each layer must see what those before it became. Running the model from its start for every
layer would take time that grows with the square of its depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.probe import Balance, Probe
from fewbit.capture.shelf import Shelf
from fewbit.core.affine import fake_quantize
from fewbit.graph.hub import Hub
from fewbit.graph.reads import values_read
from fewbit.runtimes.onnxruntime import SIMULATION, open_session
from fewbit.spec import QParams

_MEMORY = 256 << 20
_DISK = 6 << 30  # bytes in the temporary folder beyond which samples are let go
_LEAST_SAMPLES = 4
_FLOAT, _QUANTIZED = "float", "quantized"

Feed = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Decisions:
    """What quantization does to a graph, by names, in its own units.

    constants: values of initializers, as their integers stand for them. biases: of nodes. made: edges that are rounded for
    all readers. read: edges that are rounded for some nodes alone.
    """

    constants: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    biases: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    made: dict[str, tuple[QParams, Balance | None]] = field(default_factory=dict)
    read: dict[str, tuple[QParams, Balance | None, tuple[str, ...]]] = field(default_factory=dict)


class Stepwise:
    """Two runs side by side over a few samples; `step` brings them up to the inputs of some nodes. Use it as a context
    manager: what does not fit into memory lies in temporary files."""

    def __init__(self, hub: Hub, feeds: Iterable[Feed], threads: int = 1) -> None:
        self.hub, self.threads = hub, threads
        self.shelf = Shelf(_MEMORY)
        self.samples = 0
        self.known: set[str] = set()
        self.inputs: set[str] = set()
        for feed in feeds:
            for name, array in feed.items():
                self.shelf.put(name, self.samples, np.asarray(array))
                self.inputs.add(name)
            self.samples += 1
        self.known |= self.inputs
        self.done: set[ir.Node] = set()
        self.producers = {str(o.name): node for node in hub.nodes() for o in node.outputs if o.name}
        self.reads = {node: values_read(node) for node in hub.nodes()}

    def __enter__(self) -> Stepwise:
        return self

    def __exit__(self, *_: object) -> None:
        self.shelf.close()

    def step(self, nodes: Sequence[ir.Node], decisions: Decisions) -> None:
        """Run everything that the first inputs of these nodes depend on and that has not run yet."""
        wanted = [str(node.inputs[0].name) for node in nodes]  # type: ignore[union-attr]
        piece = self._missing(wanted)
        kept = self._needed_later(piece) | set(wanted)
        made = [name for node in self.hub.nodes() if node in piece for name in _names(node.outputs) if name in kept]
        inputs = sorted({name for node in piece for name in self.reads[node] if name in self.known})
        models: list[ir.Model] = []
        if made:
            cut = _cut(self.hub, {str(node.name) for node in piece}, inputs, made)
            models = [cut.model, _quantized(cut, made, decisions)]
        sessions = [open_session(model, threads=self.threads, config=SIMULATION, arena=False) for model in models]
        old = self.known - kept
        for sample in range(self.samples):
            for run, session in zip((_FLOAT, _QUANTIZED), sessions, strict=False):
                outputs = session.run({name: self._value(name, run, sample) for name in inputs})
                for name, array in zip(made, outputs, strict=True):
                    self.shelf.put(f"{run} {name}", sample, array)
            for name in old:
                self._let_go(name, sample)
            if self.shelf.on_disk > _DISK and sample + 1 >= _LEAST_SAMPLES:
                self._shorten(sample + 1)
                break
        self.known = (self.known - old) | set(made)
        self.done |= piece

    def inputs_of(
        self, node: ir.Node, decisions: Decisions
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """(float, quantized) first input of a node for every sample, after `step`."""
        name = str(node.inputs[0].name)  # type: ignore[union-attr]
        site = decisions.read.get(name)
        for sample in range(self.samples):
            real = self._value(name, _FLOAT, sample)
            quantized = real if name in self.inputs else self._value(name, _QUANTIZED, sample)
            if site is not None and str(node.name) in site[2]:
                quantized = _fake(quantized, *site[:2])
            yield real, quantized

    def _value(self, name: str, run: str, sample: int) -> NDArray[Any]:
        return self.shelf.get(name if name in self.inputs else f"{run} {name}", sample)

    def _let_go(self, name: str, sample: int) -> None:
        for key in [name] if name in self.inputs else [f"{run} {name}" for run in (_FLOAT, _QUANTIZED)]:
            self.shelf.discard(key, sample)

    def _shorten(self, samples: int) -> None:
        """Go on with the first samples alone."""
        for name in self.shelf.names():
            for sample in range(samples, self.samples):
                self.shelf.discard(name, sample)
        self.samples = samples

    def _missing(self, names: Sequence[str]) -> set[ir.Node]:
        found: set[ir.Node] = set()
        waiting = [n for n in names if n not in self.known]
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is not None and node not in found:
                found.add(node)
                waiting += [name for name in self.reads[node] if name not in self.known]
        return found

    def _needed_later(self, piece: set[ir.Node]) -> set[str]:
        """Values that nodes still to run read."""
        return {
            name
            for node in self.hub.nodes()
            if node not in self.done and node not in piece
            for name in self.reads[node]
        }


def _names(values: Sequence[ir.Value | None]) -> list[str]:
    return [str(value.name) for value in values if value is not None and value.name]


def _cut(hub: Hub, nodes: set[str], inputs: Sequence[str], outputs: Sequence[str]) -> Hub:
    """The nodes of a model that lead from some of its values to others, as a model of its own."""
    cut = hub.clone()
    values = {str(v.name): v for v in cut.values()}
    fed: list[ir.Value] = []
    for name in inputs:
        value = values[name]
        if value.producer() is not None:
            stand_in = ir.Value(name=name, type=value.type, shape=value.shape)
            for reader, index in list(value.uses()):
                reader.replace_input_with(index, stand_in)
            value.name = f"{name}@elsewhere"
            value = stand_in
        fed.append(value)
    cut.graph.inputs.clear()
    cut.graph.inputs.extend(fed)
    cut.graph.outputs.clear()
    cut.graph.outputs.extend(values[name] for name in outputs)
    for node in reversed(cut.nodes()):
        if str(node.name) not in nodes:
            node.resize_inputs(0)
            cut.graph.remove(node)
    initializers = cut.graph.initializers
    for name in [name for name, value in initializers.items() if not value.uses()]:
        del initializers[name]
    return cut


def _quantized(cut: Hub, outputs: Sequence[str], decisions: Decisions) -> ir.Model:
    """A copy of a cut that does what was decided."""
    probe = Probe(cut)
    rounded = _apply(probe, probe.hub.nodes(), decisions)
    return probe.model([rounded.get(name, probe.values[name]) for name in outputs])


def _apply(probe: Probe, own: list[ir.Node], decisions: Decisions) -> dict[str, ir.Value]:
    """Quantize nodes as decided; returns the values that take the place of those that are rounded."""
    rounded: dict[str, ir.Value] = {}
    for node in own:
        for index, value in enumerate(node.inputs):
            name = "" if value is None else str(value.name)
            if value is not None and name in decisions.constants and value.const_value is not None:
                node.replace_input_with(index, probe.constant(decisions.constants[name]))
            site = decisions.read.get(name)
            if value is not None and site is not None and str(node.name) in site[2]:
                if name not in rounded:
                    rounded[name] = probe.rounded(value, *site[:2])
                node.replace_input_with(index, rounded[name])
        bias = decisions.biases.get(str(node.name))
        if bias is not None:
            node.resize_inputs(3)
            node.replace_input_with(2, probe.constant(bias))
        for value in node.outputs:
            made = decisions.made.get(str(value.name))
            if made is not None:
                readers = list(value.uses())
                rounded[str(value.name)] = result = probe.rounded(value, *made)
                for reader, index in readers:
                    reader.replace_input_with(index, result)
    return {name: value for name, value in rounded.items() if name in decisions.made}


def _fake(x: NDArray[np.float32], params: QParams, balance: Balance | None) -> NDArray[np.float32]:
    if balance is None:
        return fake_quantize(x, params)
    shape = [-1 if axis == balance[0] % x.ndim else 1 for axis in range(x.ndim)]
    factors = balance[1].reshape(shape)
    return fake_quantize((x / factors).astype(np.float32), params) * factors
