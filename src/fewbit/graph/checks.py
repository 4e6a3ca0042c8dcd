"""What makes a model unusable: versions, duplicate and undefined names, cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.graph.hub import ONNX_DOMAINS
from fewbit.graph.nodes_check import check_node

if TYPE_CHECKING:
    import onnx


_NO_NAMES = ("?", "-1")  # what converters write for a size that is open


def check_proto(proto: onnx.ModelProto, label: str) -> None:
    """Raise ModelError for what onnx_ir would not notice or would only warn about.

    Sparse initializers, which onnx_ir drops, become dense ones in place.
    """
    import onnx

    _drop_damaged_text(proto, ("producer_name", "producer_version", "domain", "doc_string"))
    if not proto.HasField("graph"):
        raise ModelError(f"{label} is not an ONNX model: it has no graph")
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{label} has an empty graph: no nodes and no outputs")
    if not proto.graph.output:
        raise ModelError(f"{label} has no outputs")
    if not proto.graph.node:
        raise ModelError(f"{label} has an empty graph: no nodes")
    if proto.ir_version < 1:
        raise ModelError(f"{label} has no IR version: it is damaged or was made by hand")
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{label} has IR version {proto.ir_version}, newer than {onnx.IR_VERSION} of the installed onnx "
            f"{onnx.__version__}; update onnx or export with an older version"
        )
    for info in proto.graph.input:
        if info.type.WhichOneof("value") is None or (
            info.type.HasField("tensor_type") and info.type.tensor_type.elem_type == 0
        ):
            raise ModelError(f"{label}: the input {info.name!r} has no data type")
    for info in (*proto.graph.input, *proto.graph.output):
        if _holds_maps(info.type):
            raise ModelError(
                f"{label}: {info.name!r} is a dictionary, as scikit-learn's exporter makes them, and no tensor; export a "
                "neural network without (skl2onnx: options={'zipmap': False}); trees, linear and kernel machines have "
                "nothing to quantize in either form"
            )
    versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in proto.opset_import}
    newest = onnx.defs.onnx_opset_version()
    if versions.get("", 0) > newest:
        raise ModelError(
            f"{label} has opset {versions['']}, newer than {newest} of the installed onnx {onnx.__version__}; "
            f"update onnx or export with opset {newest}"
        )
    functions = {(f.domain, f.name) for f in proto.functions}
    _check_graph(proto.graph, set(), versions, functions, label)


def _holds_maps(kind: onnx.TypeProto) -> bool:
    held = kind.WhichOneof("value")
    return held == "map_type" or (held == "sequence_type" and _holds_maps(kind.sequence_type.elem_type))


def _check_graph(
    graph: onnx.GraphProto, outer: set[str], versions: dict[str, int], functions: set[tuple[str, str]], label: str
) -> None:
    if not isinstance(graph.name, str):
        raise ModelError(f"{label} has a graph whose name is not UTF-8 text; the file is damaged, copy it again")
    _drop_damaged_text(graph, ("doc_string",))
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.node, *graph.initializer):
        _drop_damaged_text(item, ("doc_string",))
    _densify(graph)
    drop_untyped(graph)
    free_sizes(graph)
    names: set[str] = set()
    for info in graph.input:
        if info.name in names:
            raise ModelError(f"{label} has two inputs named {info.name!r}")
        names.add(info.name)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type != 0:
            _check_type(info.type.tensor_type.elem_type, info.name, label)
    inputs = set(names)
    initializers: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in initializers:
            raise ModelError(f"{label} has two initializers named {tensor.name!r}")
        if not tensor.name:
            raise ModelError(f"{label} has an initializer without a name, of shape {tuple(tensor.dims)}")
        _check_data(tensor, label)
        initializers.add(tensor.name)
    names |= initializers
    for node in graph.node:
        for output in node.output:
            if output and output in names:
                kind = "an input" if output in inputs else "an initializer" if output in initializers else "a node"
                raise ModelError(f"{label} has two values named {output!r}: {_title(node)} makes one, {kind} the other")
            if output:
                names.add(output)
    visible = outer | names
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in versions and (node.domain, node.op_type) not in functions:
            shown = domain or "ai.onnx"
            raise ModelError(
                f"{label} imports no operator set of domain {shown!r}, which {_title(node)} needs: it is truncated or "
                f"was made by hand; add the opset_import"
            )
        check_node(node, versions, label)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _check_data(attribute.t, label)
        for name in node.input:
            if name and name not in visible:
                raise ModelError(f"{label}: {_title(node)} reads {name!r}, which nothing in the graph makes")
        for attribute in node.attribute:
            for subgraph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _check_graph(subgraph, visible, versions, functions, label)
    for info in graph.output:
        if info.name not in names:  # an outer value has to go through an Identity
            raise ModelError(f"{label}: the output {info.name!r} is made by nothing in the graph")


def _check_data(tensor: onnx.TensorProto, label: str) -> None:
    """A tensor without data, which onnx_ir would take for zeros."""
    _check_type(tensor.data_type, tensor.name, label)
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"{label}: tensor {tensor.name!r} has the impossible shape {tuple(tensor.dims)}")
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data", "external_data")
    if 0 in tensor.dims or tensor.HasField("raw_data") or any(len(getattr(tensor, field)) for field in fields):
        return
    raise ModelError(f"{label}: tensor {tensor.name!r} of shape {tuple(tensor.dims)} has no data; copy the file again")


def _check_type(number: int, name: str, label: str) -> None:
    try:
        known = ir.DataType(number) != ir.DataType.UNDEFINED
    except ValueError:
        known = False
    if not known:
        raise ModelError(f"{label}: tensor {name!r} has the unknown data type {number}")


def _title(node: onnx.NodeProto) -> str:
    return f"node {node.name!r} ({node.op_type})" if node.name else f"a {node.op_type} node"


def _drop_damaged_text(message: Any, fields: tuple[str, ...]) -> None:
    """Clear documentation that is not UTF-8: protobuf reads it as bytes and then cannot write it."""
    for field in fields:
        if not isinstance(getattr(message, field), str):
            message.ClearField(field)


def drop_untyped(graph: onnx.GraphProto) -> None:
    """Remove what is said about inner values and outputs without their type, as some converters do: onnx_ir cannot save
    it."""
    infos = graph.value_info
    typed = [i for i in infos if not i.type.HasField("tensor_type") or i.type.tensor_type.elem_type != 0]
    if len(typed) < len(infos):
        del infos[:]
        infos.extend(typed)
    for info in (*graph.input, *graph.output):
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type == 0:
            info.ClearField("type")


def free_sizes(graph: onnx.GraphProto) -> None:
    """Leave sizes open that some exporters write as -1 or `?`.

    The one is no size. The other is no name: the same name twice would say that both sizes are equal.
    """
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ():
            if dim.dim_value < 0 or dim.dim_param in _NO_NAMES:
                dim.Clear()


def _densify(graph: onnx.GraphProto) -> None:
    from onnx import numpy_helper

    for sparse in graph.sparse_initializer:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    if graph.sparse_initializer:
        graph.ClearField("sparse_initializer")


def check_references(model: ir.Model) -> None:
    """Raise ModelError for inputs that nothing makes and for cycles; sort the nodes if they are not in order."""
    known: set[ir.Value] = set()
    if not _in_order(model.graph, known):
        try:
            model.graph.sort()
        except ValueError:
            node = _in_cycle(model.graph)
            raise ModelError(f"the graph has a cycle through node {node.name!r} ({node.op_type})") from None
        for node in model.graph.all_nodes():
            for value in node.inputs:
                if value is not None and _is_undefined(value):
                    raise ModelError(
                        f"node {node.name!r} ({node.op_type}) reads {value.name!r}, which nothing in the graph makes"
                    )
    for output in model.graph.outputs:
        if _is_undefined(output):
            raise ModelError(f"the output {output.name!r} is made by nothing in the graph")
    if not any(domain in model.opset_imports for domain in ONNX_DOMAINS):
        user = next((n for n in model.graph.all_nodes() if n.domain in ONNX_DOMAINS), None)
        if user is not None:
            raise ModelError(f"the model imports no operator set of domain 'ai.onnx', which node {user.name!r} needs")


def _is_undefined(value: ir.Value) -> bool:
    return value.producer() is None and not value.is_graph_input() and not value.is_initializer()


def _in_order(graph: ir.Graph, known: set[ir.Value]) -> bool:
    known.update(graph.inputs)
    known.update(graph.initializers.values())
    for node in graph:
        if any(value is not None and value not in known for value in node.inputs):
            return False
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.GRAPH and not _in_order(attribute.as_graph(), known):
                return False
            if attribute.type == ir.AttributeType.GRAPHS and not all(
                _in_order(g, known) for g in attribute.as_graphs()
            ):
                return False
        known.update(node.outputs)
    return True


def _in_cycle(graph: ir.Graph) -> ir.Node:
    """A node that lies on a cycle: remove nodes whose inputs are there until no more can be; the rest is blocked."""
    left = list(graph)
    made: set[ir.Value] = set(graph.inputs) | set(graph.initializers.values())
    while True:
        ready = [
            n
            for n in left
            if all(v is None or v in made or (p := v.producer()) is None or p.graph is not graph for v in n.inputs)
        ]
        if not ready:
            return left[0]
        for node in ready:
            made.update(node.outputs)
        done = set(ready)
        left = [n for n in left if n not in done]
        if not left:
            return ready[-1]
