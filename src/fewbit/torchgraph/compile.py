"""Makes steps of the nodes of a hub. Whatever has no row in the operator tables is found here, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from torch import nn

from fewbit.errors import ModelError
from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import ONNX_DOMAINS, Hub, constant_tensor
from fewbit.graph.ops import weight_of
from fewbit.torchgraph.functions import function_body
from fewbit.torchgraph.node import Host, Node, Row
from fewbit.torchgraph.ops import find_row
from fewbit.torchgraph.program import Program, Step

_LINEAR = Row(lambda node, x, weight, bias: nn.functional.linear(x, weight.t(), bias.reshape(-1)))
_CALL = Row(lambda node, bodies, *inputs: bodies["body"](*(v for v in inputs if v is not None)), control=True)


class Compiler:
    """Compiles graphs and remembers their constants.

    constants: the numbers of every initializer and Constant node, subgraphs included, by name.
    on_host: those that rows read as numbers on the host and nowhere else, and vectors of int64, ONNX's type of shapes.

    Args:
        rows: operators besides those of `fewbit.torchgraph.ops`, or in their place.
    """

    def __init__(self, hub: Hub, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self.constants: dict[str, Host] = {}
        self._steered: dict[str, bool] = {}
        self._missing: dict[str, list[str]] = {}
        self.program = self.graph(hub.graph, hub.model.opset_imports)
        if self._missing:
            listed = "; ".join(
                f"{what} ({nodes[0]}{f' and {len(nodes) - 1} more' if len(nodes) > 1 else ''})"
                for what, nodes in sorted(self._missing.items())
            )
            raise ModelError(
                f"the torch executor does not know {len(self._missing)} of this model's operators: {listed}; "
                f"add a row to fewbit.torchgraph.ops, or leave these nodes out of the model"
            )

    @property
    def on_host(self) -> set[str]:
        shapes = {name for name, array in self.constants.items() if array.dtype == np.int64 and array.ndim <= 1}
        return shapes | {name for name, steered in self._steered.items() if steered and name in self.constants}

    def graph(self, graph: ir.Graph, opsets: Mapping[str, int]) -> Program:
        """The steps of a graph or subgraph."""
        for value in graph.initializers.values():
            self._constant(value)
        steps = [step for node in graph if (step := self._step(node, opsets)) is not None]
        by_node = {step.node.name: step for step in steps}
        joined = dict(item for node in graph if (item := _linear(node, by_node)) is not None)
        inputs = tuple(str(v.name) for v in graph.inputs if v.const_value is None)
        return Program(inputs, tuple(str(v.name) for v in graph.outputs), tuple(steps), joined)

    def _constant(self, value: ir.Value) -> bool:
        tensor = constant_tensor(value)
        if tensor is None:
            return False
        self.constants[str(value.name)] = tensor.numpy()
        return True

    def _step(self, node: ir.Node, opsets: Mapping[str, int]) -> Step | None:
        if node.op_type == "Constant" and self._constant(node.outputs[0]):
            return None
        view = describe_node(node, opsets)
        if ir.DataType.STRING in (*view.inputs, *view.outputs):
            self._refuse(f"{view.op} of strings", view)
            return None
        row = find_row(view, self._rows)
        if row is None:
            return self._call(node, view)
        bodies = {
            key: self.graph(attribute.as_graph(), opsets)
            for key, attribute in node.attributes.items()
            if attribute.type == ir.AttributeType.GRAPH
        }
        return self._finish(node, view, row, bodies)

    def _call(self, node: ir.Node, view: Node) -> Step | None:
        """A step for an operator that ONNX defines by others."""
        body = function_body(node, view.opset)
        if body is None:
            version = f"{view.domain or 'ai.onnx'} {view.opset}"
            self._refuse(f"{view.op} of opset {version}", view)
            return None
        step = self._finish(node, view, _CALL, {"body": self.graph(body.graph, body.opset_imports)})
        return replace(step, outputs=tuple(name for name in step.outputs if name))  # the body makes only those

    def _refuse(self, what: str, view: Node) -> None:
        self._missing.setdefault(what, []).append(f"node {view.name!r}")

    def _finish(self, node: ir.Node, view: Node, row: Row, bodies: Mapping[str, Program]) -> Step:
        inputs = tuple(str(v.name) if v is not None else "" for v in node.inputs)
        for index, name in enumerate(inputs):
            steered = any(wanted in ((-1,), (index,)) or index in wanted for wanted in (row.host, row.either))
            self._steered[name] = self._steered.get(name, True) and steered
        captures = {name for body in bodies.values() for name in _free(body) if name not in self.constants}
        outputs = tuple(str(v.name or "") for v in node.outputs)
        readers = (str(node.name),) * len(inputs)
        return Step(view, row, inputs, readers, outputs, bodies, tuple(sorted(captures)))


def describe_node(node: ir.Node, opsets: Mapping[str, int]) -> Node:
    """A node as the operator tables see it."""
    domain = "" if node.domain in ONNX_DOMAINS else node.domain
    opset = next((opsets[d] for d in (ONNX_DOMAINS if not domain else (domain,)) if d in opsets), 1)
    attributes = schema_defaults(node.op_type, opset, domain)
    for key, attribute in node.attributes.items():
        if attribute.type == ir.AttributeType.GRAPH:
            continue
        attributes[key] = (
            attribute.as_tensor().numpy() if attribute.type == ir.AttributeType.TENSOR else attribute.value
        )
    return Node(
        name=str(node.name),
        domain=domain,
        op=node.op_type,
        opset=opset,
        attributes=attributes,
        inputs=tuple(None if v is None else _dtype(v) for v in node.inputs),
        outputs=tuple(_dtype(v) for v in node.outputs),
        wanted=tuple(bool(v.name) and (bool(v.uses()) or v.is_graph_output()) for v in node.outputs),
        constant=frozenset(i for i, v in enumerate(node.inputs) if constant_tensor(v) is not None),
    )


def schema_defaults(op: str, opset: int, domain: str) -> dict[str, Any]:
    """The attributes that an operator has when a node says nothing, by its definition in this version."""
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    defaults = {
        key: onnx.helper.get_attribute_value(a.default_value)
        for key, a in schema.attributes.items()
        if a.default_value.type != onnx.AttributeProto.UNDEFINED
    }
    return {key: _text(value) for key, value in defaults.items()}


def _text(value: Any) -> Any:
    """Strings come as bytes."""
    if isinstance(value, list):
        return [_text(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


def _dtype(value: ir.Value) -> ir.DataType | None:
    return None if value.dtype in (None, ir.DataType.UNDEFINED) else value.dtype


def _free(program: Program) -> Iterable[str]:
    """Names that a subgraph reads from the graphs around it."""
    own = set(program.inputs) | {name for step in program.steps for name in step.outputs}
    read = [name for step in program.steps for name in step.reads]
    return [name for name in (*read, *program.outputs) if name and name not in own]


def _linear(node: ir.Node, steps: Mapping[str, Step]) -> tuple[str, tuple[Step, str]] | None:
    """A MatMul with a constant matrix and the bias that follows it, as one step for the output of the addition."""
    weight = weight_of(node) if node.op_type == "MatMul" and node.domain in ONNX_DOMAINS else None
    add = None if weight is None else bias_add(node)
    if weight is None or add is None or weight.index != 1 or len(weight.shape) != 2:
        return None
    bias = add.inputs[bias_index(add, node)]
    if bias is None or bias.const_value is None or node.outputs[0].shape is None:
        return None
    if bias.const_value.size != weight.shape[1] or not bias.const_value.dtype.is_floating_point():
        return None
    product, addition = steps[str(node.name)], steps[str(add.name)]
    inputs = (*product.inputs, str(bias.name))
    readers = (*product.readers, str(add.name))
    return addition.outputs[0], (Step(product.node, _LINEAR, inputs, readers, addition.outputs), product.outputs[0])
