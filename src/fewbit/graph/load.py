"""Load a model into a hub. Whatever is wrong with it is a ModelError of one line."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.graph.checks import check_proto, check_references
from fewbit.graph.external import check_external_data
from fewbit.graph.hub import Hub, all_graphs, constant_tensor
from fewbit.graph.ops import category_of
from fewbit.graph.sniff import describe_file

if TYPE_CHECKING:
    import onnx

PROTOBUF_LIMIT = (1 << 31) - 1
"""Bytes: no protobuf message may be larger."""

_BLOCK = 1 << 22

_QUANTIZATION_OPS = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"),
    *("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("DynamicQuantizeLSTM", "QAttention", "QGemm", "QEmbedLayerNormalization", "MatMulFpQ4", "QMoE"),
    *("Quant", "BipolarQuant", "IntQuant", "FloatQuant", "QOrderedMatMul"),
}


def load(model: str | Path | onnx.ModelProto | ir.Model | Hub, *, normalize: bool = True) -> Hub:
    """A hub of a model file, a protobuf, an onnx-ir model or a hub; the argument is not changed.

    External data is memory-mapped on use, never read here. With `normalize` the default rules of
    `fewbit.graph.normalize` are applied; what they did is in `Hub.log`.

    Raises ModelError for a file that is missing or no ONNX model, for a broken graph, and for external data that is
    missing, too short or outside the model's folder.
    """
    hub = _to_hub(model)
    check_references(hub.model)
    if normalize:
        from fewbit.graph.normalize import normalize as run_rules

        run_rules(hub)
    return hub


def _to_hub(model: str | Path | onnx.ModelProto | ir.Model | Hub) -> Hub:
    if isinstance(model, Hub):
        return model.clone()
    if isinstance(model, ir.Model):
        return Hub(model.clone())
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        return Hub(_from_proto(_read(path), path.parent, str(path)), path)
    import onnx

    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return Hub(_from_proto(copy, Path.cwd(), "the model"))
    raise ModelError(f"a model is a path, an onnx.ModelProto, an onnx_ir.Model or a Hub, not {type(model).__name__}")


def _read(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if path.is_dir():
        raise ModelError(f"{path} is a folder; give the .onnx file in it")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a file")  # reading a pipe would wait for ever
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(4096)
            hint = describe_file(start, size)
            if hint:
                raise ModelError(f"{path} is not an ONNX model: {hint}")
            if size > PROTOBUF_LIMIT:
                raise ModelError(
                    f"{path} has {size} bytes and protobuf's limit is {PROTOBUF_LIMIT}; save it with external data"
                )
            file.seek(0)
            data = file.read()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        # ModelProto's first field is ir_version: tag 0x08 and a small number.
        if data[:1] == b"\x08" and len(data) > 1 and 1 <= data[1] <= onnx.IR_VERSION + 10:
            raise ModelError(f"{path} is a truncated or damaged ONNX model ({size} bytes); copy it again") from None
        raise ModelError(f"{path} is not an ONNX model: its {size} bytes are no protobuf message") from None
    return proto


def _from_proto(proto: onnx.ModelProto, folder: Path, label: str) -> ir.Model:
    check_proto(proto, label)
    try:
        model = ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError, AttributeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first_line = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise ModelError(f"{label} is a broken ONNX model: {first_line}") from error
    _own_tensors(model, label)
    check_external_data(model, folder, label)
    return model


def _own_tensors(model: ir.Model, label: str) -> None:
    """Replace tensors that wrap a TensorProto by arrays: the wrapper copies the bytes on each access."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _owned(value.const_value, str(value.name), label)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = _owned(attribute.as_tensor(), str(node.outputs[0].name if node.outputs else name), label)
                    node.attributes[name] = ir.AttrTensor(name, tensor)


def _owned(tensor: ir.TensorProtocol, name: str, label: str) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.serde.TensorProtoTensor) or tensor.dtype == ir.DataType.STRING:
        return tensor
    try:
        array = tensor.numpy()
    except (ValueError, TypeError, AssertionError) as error:
        raise ModelError(
            f"{label}: the data of tensor {name!r} does not fit its type {tensor.dtype.name} and shape "
            f"{tuple(tensor.shape.numpy())}: {error}"
        ) from None
    return ir.Tensor(array, dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)


def find_quantization(hub: Hub) -> str | None:
    """Why this model counts as quantized already, or None: the first node that works with quantized numbers."""
    for graph in all_graphs(hub.model):
        for node in graph:
            if node.op_type in _QUANTIZATION_OPS or node.op_type.startswith("QLinear"):
                return f"it is quantized already: node {node.name!r} is a {node.op_type}"
    return None


def check_weights(hub: Hub, names: Collection[str] | None = None) -> None:
    """Raise ModelError if a float constant (of these names, or any) holds NaN, or a weight infinity.

    Infinity in a constant that is no weight is meant: a mask, or a bound of Clip. Reads the tensors it checks, in
    blocks of 16 MB, so that memory does not grow with those in memory-mapped files.
    """
    for graph in all_graphs(hub.model):
        for value in (*graph.initializers.values(), *(n.outputs[0] for n in graph if n.op_type == "Constant")):
            tensor = constant_tensor(value)
            if tensor is None or (names is not None and value.name not in names):
                continue
            nans, infinities = _count_bad(tensor)
            is_weight = any(category_of(use.node) in ("heavy", "normalization") for use in value.uses())
            count = nans + (infinities if is_weight else 0)
            if count:
                raise ModelError(
                    f"tensor {value.name!r} holds {count} NaN or infinite of {tensor.size} numbers; "
                    f"repair or retrain the model"
                )


def _count_bad(tensor: ir.TensorProtocol) -> tuple[int, int]:
    """How many numbers are NaN, and how many infinite."""
    if not tensor.dtype.is_floating_point() or tensor.size == 0:
        return 0, 0
    flat = tensor.numpy().reshape(-1)
    nans = infinities = 0
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        if part.dtype.itemsize < 4:
            part = part.astype(np.float32)
        # A sum is finite unless a number is not (or it overflows): cheaper than testing each number.
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(part.sum()):
                nans += int(np.count_nonzero(np.isnan(part)))
                infinities += int(np.count_nonzero(np.isinf(part)))
    return nans, infinities
