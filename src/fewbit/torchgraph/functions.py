"""Operators that ONNX defines by other operators: their bodies, for those that have no row of their own."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx.inliner
import onnx_ir as ir

from fewbit.graph.hub import ONNX_DOMAINS, Hub
from fewbit.graph.shapes import infer_shapes


def function_body(node: ir.Node, opsets: Mapping[str, int]) -> ir.Model | None:
    """The body that ONNX's definition gives a node, for the types of its inputs; None when it gives none.

    The graph's inputs are those that the node has; its other values are named after the node.
    """
    domain = "" if node.domain in ONNX_DOMAINS else node.domain
    version = next((opsets[d] for d in (ONNX_DOMAINS if not domain else (domain,)) if d in opsets), 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    if not (schema.has_function or schema.has_context_dependent_function):
        return None
    call = ir.to_proto(node)
    names: dict[str, str] = {}
    inputs = [_info(v, names) for v in node.inputs if v is not None and str(v.name) not in names]
    call_inputs = [names[str(v.name)] if v is not None else "" for v in node.inputs]
    del call.input[:]
    call.input.extend(call_inputs)
    outputs = [_info(v, names) for v in node.outputs if v.name]
    del call.output[:]
    call.output.extend(names[str(v.name)] if v.name else "" for v in node.outputs)
    graph = onnx.helper.make_graph([call], "call", inputs, outputs)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    inlined = onnx.inliner.inline_selected_functions(
        model, [(domain, node.op_type)], exclude=False, inline_schema_functions=True
    )
    if any(n.op_type == node.op_type and n.domain in (node.domain, domain) for n in inlined.graph.node):
        return None
    hub = Hub(ir.from_proto(inlined))
    infer_shapes(hub.model)
    for value in _all_values(hub.model):
        value.name = f"{node.name}/{value.name}"
    for inner in hub.model.graph.all_nodes():
        inner.name = f"{node.name}/{inner.name}"
    return hub.model


def _all_values(model: ir.Model) -> list[ir.Value]:
    values: dict[ir.Value, None] = dict.fromkeys(model.graph.inputs)
    values.update(dict.fromkeys(v for n in model.graph.all_nodes() for v in n.outputs if v.name))
    for graph in (model.graph, *model.graph.subgraphs()):
        values.update(dict.fromkeys((*graph.inputs, *graph.initializers.values())))
    return list(values)


def _info(value: ir.Value, names: dict[str, str]) -> onnx.ValueInfoProto:
    names[str(value.name)] = f"v{len(names)}"
    info = onnx.ValueInfoProto(name=names[str(value.name)])
    known = ir.Value(name=info.name, type=value.type, shape=value.shape)
    return ir.to_proto(known) if value.type is not None else info
