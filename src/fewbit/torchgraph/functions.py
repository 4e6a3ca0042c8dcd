"""Operators that ONNX defines by other operators: their bodies, for those that have no row of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from fewbit.graph.hub import ONNX_DOMAINS, all_graphs
from fewbit.graph.shapes import infer_shapes


def function_body(node: ir.Node, opset: int) -> ir.Model | None:
    """The body that ONNX's definition gives a node, for the types of its inputs; None when it gives none.

    The inputs of its graph are those that the node has, the outputs those that it wants; its values and nodes are named
    after the node.
    """
    domain = "" if node.domain in ONNX_DOMAINS else node.domain
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    call = ir.to_proto(node)
    function = _definition(schema, call, opset, [_type(v) for v in node.inputs])
    if function is None:
        return None
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    _fill_in(function.node, {**defaults, **{a.name: a for a in call.attribute}})
    inputs = zip(function.input, node.inputs, strict=False)
    outputs = zip(function.output, node.outputs, strict=False)
    graph = onnx.helper.make_graph(
        list(function.node),
        "body",
        [onnx.ValueInfoProto(name=name, type=_type(v)) for name, v in inputs if v is not None],
        [onnx.ValueInfoProto(name=name, type=_type(v)) for name, v in outputs if v.name],
    )
    _drop_missing(graph.node, {name for name, v in zip(function.input, node.inputs, strict=False) if v is None})
    body = ir.from_proto(onnx.helper.make_model(graph, opset_imports=list(function.opset_import)))
    infer_shapes(body)
    _name_after(body, str(node.name))
    return body


def _definition(
    schema: Any, call: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]
) -> onnx.FunctionProto | None:
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    if versions:
        text = schema.get_context_dependent_function_with_opset_version(
            max(versions), call.SerializeToString(), [t.SerializeToString() for t in types]
        )
    elif schema.has_function:
        text = schema.get_function_with_opset_version(max(v for v in schema.function_opset_versions if v <= opset))
    else:
        return None
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    return function if function.node else None


def _fill_in(nodes: Sequence[onnx.NodeProto], values: Mapping[str, onnx.AttributeProto]) -> None:
    """Put the attributes of the call where the body refers to them, and leave out those that it does not have."""
    for node in nodes:
        attributes = []
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _fill_in(attribute.g.node, values)
            if attribute.ref_attr_name:
                if attribute.ref_attr_name not in values:
                    continue
                name = attribute.name
                attribute.CopyFrom(values[attribute.ref_attr_name])
                attribute.name = name
            attributes.append(onnx.AttributeProto.FromString(attribute.SerializeToString()))
        del node.attribute[:]
        node.attribute.extend(attributes)


def _drop_missing(nodes: Sequence[onnx.NodeProto], missing: set[str]) -> None:
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in missing:
                node.input[index] = ""


def _name_after(body: ir.Model, stem: str) -> None:
    for graph in all_graphs(body):
        made = [v for node in graph for v in node.outputs if v.name]
        for value in dict.fromkeys((*graph.inputs, *graph.initializers.values(), *made)):
            value.name = f"{stem}/{value.name}"
        for index, node in enumerate(graph):
            node.name = f"{stem}/{node.name or f'{node.op_type}_{index}'}"


def _type(value: ir.Value | None) -> onnx.TypeProto:
    if value is None or value.type is None:
        return onnx.TypeProto()
    return ir.to_proto(ir.Value(name="", type=value.type, shape=value.shape)).type
