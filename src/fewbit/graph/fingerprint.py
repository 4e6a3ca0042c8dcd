"""A hash of what a model computes."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import onnx_ir as ir

_DIGEST = "fewbit.digest"
_CHUNK = 1 << 22
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)


def fingerprint(model: ir.Model) -> str:
    """SHA-256, in hex, over operators, attributes, names, wiring, ends and constants.

    Independent of metadata, doc strings, inferred shapes, node names, attribute order and of where weights are stored,
    so the same after saving and loading. Each tensor is hashed once and the digest kept with it; external data is read
    in blocks of 4 MB, so that memory does not grow with the model.
    """
    digest = hashlib.sha256(b"fewbit graph 1\n")
    for domain, version in sorted(model.opset_imports.items()):
        if version is not None:
            _put(digest, "opset", domain if domain != "ai.onnx" else "", version)
    for identifier in sorted(model.functions):
        _graph(digest, model.functions[identifier].graph, f"function {identifier}")
    _graph(digest, model.graph, "graph")
    return digest.hexdigest()


def _put(digest: Any, *parts: object) -> None:
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(struct.pack("<Q", len(data)))
        digest.update(data)


def _graph(digest: Any, graph: ir.Graph, label: str) -> None:
    _put(digest, label, len(graph.inputs), len(graph.outputs), len(graph.initializers), len(graph))
    for value in graph.inputs:
        _put(digest, "input", value.name, value.type, _dims(value))
    for name in sorted(graph.initializers):
        tensor = graph.initializers[name].const_value
        _put(digest, "initializer", name, b"" if tensor is None else tensor_digest(tensor))
    for node in graph:
        _put(digest, "node", node.domain if node.domain != "ai.onnx" else "", node.op_type, node.overload)
        _put(digest, *("" if v is None else v.name for v in node.inputs), "->", *(v.name or "" for v in node.outputs))
        for name in sorted(node.attributes):
            _attribute(digest, node.attributes[name])
    for value in graph.outputs:
        _put(digest, "output", value.name, value.type, _dims(value))


def _dims(value: ir.Value) -> str:
    return "?" if value.shape is None else ",".join(str(d if isinstance(d, int) else d.value) for d in value.shape)


def _attribute(digest: Any, attribute: ir.Attr) -> None:
    _put(digest, "attribute", attribute.name, attribute.type.name)
    if attribute.is_ref():
        _put(digest, "ref", attribute.ref_attr_name)
        return
    value = attribute.value
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if attribute.type in _GRAPHS:
            _graph(digest, item, "subgraph")
        elif attribute.type in _TENSORS:  # isinstance of a protocol takes longer than all the rest
            _put(digest, tensor_digest(item))
        elif isinstance(item, float):
            _put(digest, struct.pack("<d", item))
        else:
            _put(digest, item)


def tensor_digest(tensor: ir.TensorProtocol) -> bytes:
    """SHA-256 of dtype, shape and little-endian bytes."""
    kept = tensor.meta.get(_DIGEST) if hasattr(tensor, "meta") else None
    if kept is not None:
        return kept  # type: ignore[no-any-return]
    digest = hashlib.sha256()
    _put(digest, tensor.dtype.name, tuple(tensor.shape.numpy()))
    if isinstance(tensor, ir.ExternalTensor):
        left = tensor.nbytes
        with open(tensor.path, "rb") as file:
            file.seek(tensor.offset or 0)
            while left and (block := file.read(min(_CHUNK, left))):
                digest.update(block)
                left -= len(block)
    elif tensor.dtype == ir.DataType.STRING:
        _put(digest, *(tensor.string_data() if isinstance(tensor, ir.StringTensor) else tensor.numpy().reshape(-1)))
    else:
        digest.update(tensor.tobytes())
    result = digest.digest()
    if hasattr(tensor, "meta"):
        tensor.meta[_DIGEST] = result
    return result
