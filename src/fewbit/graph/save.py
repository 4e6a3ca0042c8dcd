"""Save a model: atomically, with external data when it is too big for one protobuf, and compactly when asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import onnx_ir as ir

from fewbit.graph.atomic import atomic_files
from fewbit.graph.compact import Renaming, make_compact
from fewbit.graph.hub import ONNX_DOMAINS, all_graphs
from fewbit.graph.tensors import in_memory, swapped_tensors

if TYPE_CHECKING:
    import onnx

EXTERNAL_ABOVE = 1_800_000_000
"""Bytes of tensors above which they go to a file of their own; protobuf's limit is 2**31 - 1 for all of the model."""

_INLINE_BELOW = 1024
_ALIGNMENT = 4096
"""Large tensors start at a page, so that a reader can map them."""


def save(model: ir.Model, path: str | Path, *, compact: bool = False, external_above: int = EXTERNAL_ABOVE) -> Renaming:
    """Write a model to `path`, completely or not at all; the model is not changed.

    compact: leave out doc strings, metadata of nodes and values, and inferred shapes, and give nodes and values short
        names; inputs, outputs, and the model's own metadata (class names and the like) are kept.
    external_above: bytes of tensors above which those over 1 kB go to `<path>.data` beside it.

    Returns the renaming, empty unless compact. Raises OutputError when the file cannot be written.
    """
    path = Path(path)
    renaming = Renaming()
    if _tensor_bytes(model) > external_above:
        data_path = path.with_name(path.name + ".data")
        with atomic_files(data_path, path) as (data_file, file), _moved_out(model, data_file, data_path) as proto:
            if compact:
                renaming = make_compact(proto)
            file.write(proto.SerializeToString())
        return renaming
    with _inlined(model):
        proto = _to_proto(model)
    if compact:
        renaming = make_compact(proto)
    with atomic_files(path) as (file,):
        file.write(proto.SerializeToString())
    return renaming


def to_bytes(model: ir.Model) -> bytes:
    """The model as one serialized protobuf, external data included, for a runtime's session.

    Raises ValueError from protobuf above 2 GB; save such a model to a file instead.
    """
    with _inlined(model):
        return _to_proto(model).SerializeToString()  # type: ignore[no-any-return]


def _to_proto(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    for graph in (proto.graph, *_subgraphs(proto.graph)):
        _keep_custom_info(graph)
    return proto


def _subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield inner
                yield from _subgraphs(inner)


def _keep_custom_info(graph: onnx.GraphProto) -> None:
    """Drop inferred shapes, except for outputs of custom operators, which a reader could not infer.

    A runtime infers the others by itself, and refuses a model in which onnx has inferred something else.
    """
    custom = {name for node in graph.node if node.domain not in ONNX_DOMAINS for name in node.output}
    kept = [info for info in graph.value_info if info.name in custom]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def is_large(model: ir.Model) -> bool:
    """Whether the tensors are too big for one protobuf."""
    return _tensor_bytes(model) > EXTERNAL_ABOVE


def _tensor_bytes(model: ir.Model) -> int:
    values = (value for graph in all_graphs(model) for value in graph.initializers.values())
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)


@contextmanager
def _inlined(model: ir.Model) -> Iterator[None]:
    """The model without external data, for the time of the block; in attributes for good."""
    _map_attributes(model)
    with swapped_tensors(model, lambda _, tensor: in_memory(tensor)):
        yield


def _map_attributes(model: ir.Model) -> None:
    for graph in all_graphs(model):
        for node in graph:
            for attribute in list(node.attributes.values()):
                if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                    node.attributes[attribute.name] = ir.AttrTensor(attribute.name, in_memory(attribute.as_tensor()))


def _let_go_of(model: ir.Model, path: str) -> None:
    """Map the tensors that lie in a file about to be replaced: a mapped file outlives its name."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and os.path.realpath(tensor.path) == path:
                value.const_value = in_memory(tensor)


@contextmanager
def _moved_out(model: ir.Model, file: BinaryIO, path: Path) -> Iterator[onnx.ModelProto]:
    """The model's protobuf with its tensors in `file`, which will be found at `path`."""
    _map_attributes(model)
    _let_go_of(model, os.path.realpath(path))
    offset = 0

    def write(value: ir.Value, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        nonlocal offset
        if tensor.nbytes < _INLINE_BELOW or tensor.dtype == ir.DataType.STRING:
            return in_memory(tensor)
        padding = -offset % _ALIGNMENT if tensor.nbytes >= _ALIGNMENT else 0
        file.write(b"\0" * padding)
        offset += padding
        if isinstance(tensor, ir.ExternalTensor):
            tensor.tofile(file)
        else:
            file.write(tensor.tobytes())
        start, offset = offset, offset + tensor.nbytes
        return ir.ExternalTensor(
            path.name, start, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=str(value.name)
        )

    with swapped_tensors(model, write):
        yield _to_proto(model)
