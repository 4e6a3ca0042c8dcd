"""Shape inference that never fails: what cannot be inferred stays unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from fewbit.graph.hub import all_graphs

if TYPE_CHECKING:
    import onnx

_SMALL = 1024
"""Bytes: constants up to this size are given to the inference, as shapes may be computed from them."""


class _Hollow(ir.TensorProtocol):
    """A tensor's type and shape without its bytes."""

    def __init__(self, tensor: ir.TensorProtocol) -> None:
        self.name = tensor.name
        self.dtype = tensor.dtype
        self.shape = tensor.shape
        self.doc_string = None
        self.metadata_props: dict[str, str] = {}

    def tobytes(self) -> bytes:
        return b""


def infer_shapes(model: ir.Model) -> None:
    """Write types and shapes of intermediate values into the model, as far as ONNX can infer them.

    Shapes that are known already are kept unless inference knows more. Weights are not read, so the size of the model
    does not matter.
    """
    import onnx

    proto = hollow_proto(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return  # an operator's own inference broke on the model; the runtime will say what is wrong, if anything is
    infos = {info.name: info for info in _infos(inferred.graph)}
    ends = set(model.graph.inputs) | set(model.graph.outputs)
    for graph in all_graphs(model):
        for node in graph:
            for value in node.outputs:
                info = infos.get(value.name or "")
                if info is None or (value in ends and value.shape is not None and value.type is not None):
                    continue
                _merge(value, info)


def hollow_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as a protobuf without the bytes of tensors over 1 kB."""
    swapped: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and (tensor.nbytes > _SMALL or isinstance(tensor, ir.ExternalTensor)):
                if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes <= _SMALL:
                    small = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
                    swapped.append((value, tensor))
                    value.const_value = small
                    continue
                swapped.append((value, tensor))
                value.const_value = _Hollow(tensor)  # type: ignore[abstract]  # serialization asks for no more
    try:
        return ir.to_proto(model)
    finally:
        for value, tensor in swapped:
            value.const_value = tensor


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.output
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _infos(attribute.g)
            for subgraph in attribute.graphs:
                yield from _infos(subgraph)


def _merge(value: ir.Value, info: onnx.ValueInfoProto) -> None:
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(info.type)
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    if shape is not None and (value.shape is None or len(value.shape) == len(shape)):
        value.shape = shape
