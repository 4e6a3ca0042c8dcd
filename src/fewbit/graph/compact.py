"""Make a model's protobuf small: no documentation, no inferred shapes, short names."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_DIGITS = string.ascii_lowercase + string.ascii_uppercase + string.digits


@dataclass(frozen=True, slots=True)
class Renaming:
    """The names that a compact file has in place of the model's: old name to new, for values and for nodes."""

    values: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)


def make_compact(proto: onnx.ModelProto) -> Renaming:
    """Strip and rename in place. The names of the model's inputs and outputs stay, and so does its own metadata.

    The same old name gets the same new name everywhere, so what a subgraph captures from outside stays captured.
    """
    for name in ("doc_string", "producer_name", "producer_version"):
        proto.ClearField(name)
    ends = [info.name for info in (*proto.graph.input, *proto.graph.output)]
    values = dict.fromkeys(ends)
    fresh = (name for name in _short_names() if name not in values)
    renaming = Renaming({}, {})
    node_names = _short_names()

    def short(name: str) -> str:
        if not name or name in values:
            return name
        if name not in renaming.values:
            renaming.values[name] = next(fresh)
        return renaming.values[name]

    def visit(graph: onnx.GraphProto) -> None:
        graph.ClearField("doc_string")
        graph.ClearField("value_info")
        graph.ClearField("metadata_props")
        graph.ClearField("quantization_annotation")
        graph.name = "g"  # must not be empty
        for info in (*graph.input, *graph.output):
            info.ClearField("doc_string")
            info.ClearField("metadata_props")
            info.name = short(info.name)
        for tensor in graph.initializer:
            tensor.ClearField("doc_string")
            tensor.ClearField("metadata_props")
            tensor.name = short(tensor.name)
        for node in graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
            new = next(node_names)
            if node.name:
                renaming.nodes[node.name] = new
            node.name = new
            for names in (node.input, node.output):
                renamed = [short(name) for name in names]
                del names[:]
                names.extend(renamed)
            for attribute in node.attribute:
                attribute.ClearField("doc_string")
                if attribute.HasField("t"):
                    attribute.t.ClearField("name")
                    attribute.t.ClearField("doc_string")
                if attribute.HasField("g"):
                    visit(attribute.g)
                for subgraph in attribute.graphs:
                    visit(subgraph)

    visit(proto.graph)
    return renaming


def _short_names() -> Iterator[str]:
    """a, b ... Z, aa, ab ...: a letter, then letters and digits."""
    yield from _DIGITS[:52]
    for prefix in _short_names():
        for digit in _DIGITS:
            yield prefix + digit
