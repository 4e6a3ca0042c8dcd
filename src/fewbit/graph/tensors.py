"""All the tensors of a model at once: find them, or put others in their place for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import onnx_ir as ir

from fewbit.graph.hub import all_graphs


def every_tensor(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """(name of the value or node, tensor): initializers and attributes, in subgraphs and model-local functions too."""
    for graph in (
        *all_graphs(model),
        *(inner for f in model.functions.values() for inner in (f.graph, *f.subgraphs())),
    ):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield str(value.name), value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                name = str(node.outputs[0].name if node.outputs else node.name)
                if attribute.type == ir.AttributeType.TENSOR:
                    yield name, attribute.as_tensor()
                elif attribute.type == ir.AttributeType.TENSORS:
                    yield from ((name, tensor) for tensor in attribute.as_tensors())


@contextmanager
def swapped_tensors(
    model: ir.Model, replace: Callable[[ir.Value, ir.TensorProtocol], ir.TensorProtocol]
) -> Iterator[None]:
    """The model with each initializer's tensor replaced, for the time of the block."""
    before: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        for graph in all_graphs(model):
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and (other := replace(value, tensor)) is not tensor:
                    before.append((value, tensor))
                    value.const_value = other
        yield
    finally:
        for value, tensor in before:
            value.const_value = tensor


def in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """The same tensor over memory-mapped bytes, so that it is serialized into the protobuf."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
    return tensor
