"""The hub: one model, held as an onnx-ir graph whose values and nodes all have unique names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.normal import Normal
from fewbit.errors import ModelError
from fewbit.graph.info import RuleOutcome, Shape, TensorInfo

ONNX_DOMAINS = ("", "ai.onnx")


class Hub:
    """One model.

    Tensors are immutable: a changed weight is a new tensor. Names are unique over the main graph and all subgraphs; a
    node without a name gets one from its operator and first output, so it is the same on each load.

    folded_bytes: what nodes that were computed once have made.
    normals: value name → what a batch normalization that was folded says of its channels; `fewbit.graph.normals` reads it.
    """

    def __init__(self, model: ir.Model, path: Path | None = None) -> None:
        self.model = model
        self.path = path
        self.log: list[RuleOutcome] = []
        self.normals: dict[str, Normal] = {}
        self.folded_bytes = 0
        self._by_name: dict[str, ir.Value] = {}
        self._names = name_everything(model)

    def __repr__(self) -> str:
        return f"Hub({str(self.path) if self.path else self.graph.name!r}, {len(self.graph)} nodes, opset {self.opset})"

    @property
    def graph(self) -> ir.Graph:
        return self.model.graph

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 when the model uses none of it."""
        imports = self.model.opset_imports
        return next((imports[domain] for domain in ONNX_DOMAINS if domain in imports), 0)

    @property
    def inputs(self) -> list[TensorInfo]:
        """The inputs a caller has to feed."""
        return [tensor_info(v) for v in self.graph.inputs if v.const_value is None]

    @property
    def outputs(self) -> list[TensorInfo]:
        return [tensor_info(v) for v in self.graph.outputs]

    def nodes(self) -> list[ir.Node]:
        """The nodes of the main graph, producers before consumers."""
        return list(self.graph)

    def values(self) -> Iterator[ir.Value]:
        """Every value of the main graph: inputs, initializers, then node outputs in order."""
        seen = set()
        for value in (*self.graph.inputs, *self.graph.initializers.values()):
            if value not in seen:
                seen.add(value)
                yield value
        for node in self.graph:
            yield from node.outputs

    def value(self, name: str) -> ir.Value:
        """The value of the main graph with this name. Raises ModelError when there is none."""
        value = self._by_name.get(name)
        if value is None or value.name != name or value.graph is not self.graph:
            self._by_name = {str(v.name): v for v in self.values()}
            value = self._by_name.get(name)
        if value is None:
            raise ModelError(f"the graph has no value named {name!r}")
        return value

    def constant(self, value: ir.Value | None) -> NDArray[np.generic] | None:
        """The numbers of an initializer or Constant node, or None. External data is memory-mapped, not read."""
        return constant_array(value)

    def shape(self, value: ir.Value | None) -> Shape | None:
        """Sizes, as far as known."""
        return shape_of(value)

    def fingerprint(self) -> str:
        """SHA-256, in hex, of what the model computes; see `fewbit.graph.fingerprint`."""
        from fewbit.graph.fingerprint import fingerprint

        return fingerprint(self.model)

    def clone(self) -> Hub:
        """A hub whose graph can be changed without touching this one. The tensors are shared."""
        hub = Hub(self.model.clone(), self.path)
        hub.log, hub.normals, hub.folded_bytes = list(self.log), dict(self.normals), self.folded_bytes
        return hub

    def fresh_name(self, stem: str) -> str:
        """A value name that is not in use: `stem`, or `stem` with a number; it is in use from now on."""
        name = unique_name(stem, self._names)
        self._names.add(name)
        return name

    def release_name(self, name: str) -> None:
        """Say that the value of this name has lost it."""
        self._names.discard(name)

    def rename(self) -> None:
        """Give unique names to whatever has none, after values or nodes came in from elsewhere."""
        self._names = name_everything(self.model)

    def record(self, outcomes: Iterable[RuleOutcome]) -> None:
        """Append to the log."""
        self.log.extend(outcomes)


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """The numbers of an initializer, or of the output of a Constant node with a tensor or number in it, or None."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of a constant value, without reading it, or None."""
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    if node is not None and node.op_type == "Constant" and node.domain in ONNX_DOMAINS:
        return ir.convenience.get_const_tensor(value)
    return None


def shape_of(value: ir.Value | None) -> Shape | None:
    """Sizes, as far as known; None for an unknown rank, and for what is no tensor."""
    if value is None or isinstance(value.type, ir.SequenceType | ir.OptionalType):
        return None
    if value.shape is None:
        return None if value.const_value is None else tuple(value.const_value.shape.numpy())
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def tensor_info(value: ir.Value) -> TensorInfo:
    dtype = None
    if isinstance(value.type, ir.TensorType) and value.dtype not in (None, ir.DataType.UNDEFINED):
        dtype = np.dtype(object) if value.dtype == ir.DataType.STRING else value.dtype.numpy()  # type: ignore[union-attr]
    return TensorInfo(str(value.name), dtype, shape_of(value))


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph, then every subgraph in it."""
    yield model.graph
    yield from model.graph.subgraphs()


def name_everything(model: ir.Model) -> set[str]:
    """Give every value and node a unique non-empty name. Names of graph inputs and outputs never change.

    Returns the names of the values.
    """
    graphs = list(all_graphs(model))
    taken: set[str] = set()
    kept: set[ir.Value] = set()
    for value in (*model.graph.inputs, *model.graph.outputs):
        taken.add(str(value.name))
        kept.add(value)
    for graph in graphs:
        for value in _values_of(graph):
            if value in kept:
                continue
            kept.add(value)
            if not value.name and not value.uses() and not value.is_graph_output():
                # An optional output that is not wanted: its empty name says so, and a name would ask for it.
                continue
            if not value.name or value.name in taken:
                producer = value.producer()
                stem = value.name or f"{producer.op_type if producer else 'value'}_{value.index() or 0}"
                value.name = unique_name(stem, taken)
            taken.add(str(value.name))
    names: set[str] = set()
    for graph in graphs:
        for node in graph:
            if not node.name or node.name in names:
                first = next((v.name for v in node.outputs if v.name), "")
                node.name = unique_name(node.name or f"{node.op_type}:{first}", names)
            names.add(str(node.name))
    return taken


def _values_of(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from list(graph.initializers.values())
    for node in graph:
        yield from node.outputs


def unique_name(stem: str, taken: set[str]) -> str:
    """`stem`, or the first of `stem_1`, `stem_2` ... that is not taken."""
    name, count = stem, 0
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name
