"""Shape inference that never fails: what cannot be inferred stays unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import onnx_ir as ir

from fewbit.graph.hub import all_graphs
from fewbit.graph.tensors import in_memory, swapped_tensors

if TYPE_CHECKING:
    import onnx

_SMALL = 1024
"""Bytes: constants up to this size are given to the inference, as shapes may be computed from them."""

_LONGEST = 1 << 16
"""Entries of a vector beyond which it holds no sizes or places of axes."""

# ONNX Runtime's operator -> ONNX's with the same first output's shape, and the inputs that it depends on (None: leave
# inputs and attributes as they are).
_STAND_INS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    **dict.fromkeys(("Gelu", "FastGelu", "QuickGelu", "RotaryEmbedding", "MultiHeadAttention"), ("Identity", (0,))),
    **dict.fromkeys(("BiasGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), ("Add", (0, 1))),
    "FusedMatMul": ("MatMul", (0, 1)),
    "FusedConv": ("Conv", None),
    "FusedGemm": ("Gemm", None),
}


class _Hollow:
    """A tensor's type and shape without its bytes: what serialization asks for."""

    def __init__(self, tensor: ir.TensorProtocol) -> None:
        self.name = tensor.name
        self.dtype, self.shape = tensor.dtype, tensor.shape
        self.size, self.nbytes = tensor.size, tensor.nbytes
        self.size, self.nbytes = tensor.size, tensor.nbytes
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
    _stand_in(proto.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=False)
        if not any(_is_long_vector(info) for info in (*inferred.graph.input, *_infos(inferred.graph))):
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

    def hollow(_: ir.Value, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if tensor.nbytes > _SMALL:
            return cast(ir.TensorProtocol, _Hollow(tensor))
        return in_memory(tensor)

    with swapped_tensors(model, hollow):
        return ir.to_proto(model)


def _stand_in(graph: onnx.GraphProto) -> None:
    """Put an operator of ONNX with the same shapes in the place of ONNX Runtime's, which onnx cannot infer."""
    for node in graph.node:
        for inner in _subgraphs(node):
            _stand_in(inner)
        if node.domain == "com.microsoft" and node.op_type in _STAND_INS and node.output:
            flags = {attribute.name: attribute.i for attribute in node.attribute}
            if any(flags.get(name) for name in ("transA", "transB", "transBatchA", "transBatchB")):
                continue
            node.op_type, inputs = _STAND_INS[node.op_type]
            node.domain = ""
            if inputs is not None:
                kept = [node.input[i] for i in inputs]
                node.ClearField("attribute")
                del node.input[:]
                node.input.extend(kept)
            first = node.output[0]
            del node.output[:]
            node.output.append(first)


def _is_long_vector(info: onnx.ValueInfoProto) -> bool:
    """Whether a value is a vector that no one makes shapes of. ONNX's inference would: in a message of 100 bytes for each
    number, so that one input of a stated size of 2^27 takes 19 GB."""
    dims = info.type.tensor_type.shape.dim
    return len(dims) == 1 and dims[0].dim_value > _LONGEST


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.output
    for node in graph.node:
        for inner in _subgraphs(node):
            yield from _infos(inner)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _merge(value: ir.Value, info: onnx.ValueInfoProto) -> None:
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(info.type)
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    if shape is not None and (value.shape is None or len(value.shape) == len(shape)):
        value.shape = shape
