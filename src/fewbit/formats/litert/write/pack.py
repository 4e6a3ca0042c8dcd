"""From collected tensors and operators to the bytes of a .tflite file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from fewbit.core.packing import pack
from fewbit.errors import ModelError
from fewbit.formats.litert.kinds import LiteRTMetadata
from fewbit.formats.litert.schema import IDENTIFIER, OLD_CODES_END, VERSION, operator_codes, schema
from fewbit.formats.litert.write.emit import NUMPY, Call, Emitter, Stored, digest
from fewbit.formats.litert.write.graph import Array, Quant, Tensor
from fewbit.formats.litert.write.versions import minimum_runtime, version_of
from fewbit.spec import DType

SIGNATURE = "serving_default"
DESCRIPTION = "fewbit"
RUNTIME_ENTRY = "min_runtime_version"
_LEAST_HALF = np.float16(2.0**-24)  # the least positive float16
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the first that the format has: the same files give the same bytes
ALIGNMENT = 16
"""Bytes, of buffers."""

BATCHWISE = frozenset(
    [
        "FULLY_CONNECTED",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "ADD",
        "SUB",
        "MUL",
        "RELU",
        "RELU6",
        "TANH",
        "LOGISTIC",
        "LEAKY_RELU",
        "HARD_SWISH",
        "GELU",
        "ELU",
        "SOFTMAX",
        "LOG_SOFTMAX",
        "QUANTIZE",
        "DEQUANTIZE",
    ]
)
"""Operators that name no size of a first axis: a file of these alone takes any number of samples at once."""

LIMIT = (1 << 31) - 1
"""Bytes: offsets of a flatbuffer have 32 bits."""


def to_bytes(emitter: Emitter, metadata: LiteRTMetadata, *, any_batch: bool = False, keep_names: bool = True) -> bytes:
    """The file: buffers aligned to 16 bytes (`force_align` of the schema), the same bytes for the same graph.

    Args:
        metadata: signature, description, named bytes, and files that are attached.
        keep_names: whether tensors but the ends keep their names.
        any_batch: the first axis of all inputs counts samples; the file says so if its operators allow it.

    Raises:
        ModelError: more than 2 GiB.
    """
    size = sum(0 if t.data is None else t.data.nbytes for t in emitter.tensors)
    if size > LIMIT:
        raise ModelError(f"the constants have {size} bytes, and a .tflite file ends at {LIMIT}; write narrower weights")
    packer = _Packer(schema(), emitter, keep_names)
    builder = _aligned_builder()
    builder.Finish(packer.model(metadata, any_batch).Pack(builder), IDENTIFIER)
    return _with_files(bytes(builder.Output()), metadata.files)


def _with_files(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """A model with files attached as a zip archive behind it, uncompressed, so that readers may map them."""
    if not files:
        return data
    made = io.BytesIO(data)
    with zipfile.ZipFile(made, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
    return made.getvalue()


def _aligned_builder() -> Any:
    """A builder that puts arrays of bytes, which here are the buffers alone, at multiples of 16, and stores other arrays and
    texts that are equal once.

    The schema demands the first (`force_align`) and readers that map the file rely on it; Python's generated classes ignore
    it. The second is worth a fifth of a small convolutional network: each of its channels has a zero point of 8 bytes, twice.
    """
    import flatbuffers  # type: ignore[import-untyped]

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.known: dict[tuple[str, bytes], int] = {}

        def CreateString(self, s: str | bytes) -> int:  # noqa: N802
            key = "text", s if isinstance(s, bytes) else s.encode()
            if key not in self.known:
                self.known[key] = int(super().CreateString(s))
            return self.known[key]

        def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802
            data = x.tobytes()
            if x.dtype != np.uint8:
                key = x.dtype.str, data
                if key not in self.known:
                    self.known[key] = int(super().CreateNumpyVector(x))
                return self.known[key]
            self.StartVector(1, len(data), ALIGNMENT)
            head: int = self.head - len(data)  # type: ignore[has-type]
            self.head = head
            self.Bytes[head : head + len(data)] = data
            return int(self.EndVector())

    return Aligned(1 << 20)


class _Packer:
    def __init__(self, schema: Any, emitter: Emitter, keep_names: bool) -> None:
        self.schema, self.emitter, self.keep_names = schema, emitter, keep_names
        self.buffers: list[Any] = []
        self._known: dict[bytes, int] = {}
        self._tensors: list[Any] = []

    def buffer(self, data: bytes) -> int:
        """The index of a buffer with these bytes; the first is empty, for tensors without constants."""
        key = digest(data)
        if key not in self._known:
            made = self.schema.BufferT()
            if data:
                made.data = np.frombuffer(data, np.uint8)
            self._known[key] = len(self.buffers)
            self.buffers.append(made)
        return self._known[key]

    def model(self, metadata: LiteRTMetadata, any_batch: bool) -> Any:
        schema, emitter = self.schema, self.emitter
        self.buffer(b"")
        inputs = [emitter.read(t) for t in emitter.graph.inputs]
        outputs = [output_index(emitter, t) for t in emitter.graph.outputs]
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        # By index: scales of blocks are tensors themselves, and come after those that need them.
        self._tensors = []
        while len(self._tensors) < len(emitter.tensors):
            self._tensors.append(self._tensor(emitter.tensors[len(self._tensors)]))
        if not self.keep_names:
            self._shorten({*inputs, *outputs})
        if any_batch and all(call.builtin in BATCHWISE for call in emitter.calls):
            for index in {*inputs, *outputs}:
                self._tensors[index].shapeSignature = [-1, *self._tensors[index].shape[1:]]
        codes: dict[tuple[str, int], int] = {}
        subgraph.operators = [self._operator(call, codes) for call in emitter.calls]
        subgraph.tensors, subgraph.inputs, subgraph.outputs = self._tensors, inputs, outputs
        model = schema.ModelT()
        model.version, model.description = VERSION, metadata.description or DESCRIPTION
        model.subgraphs = [subgraph]
        model.operatorCodes = [self._code(*key) for key in codes]
        model.signatureDefs = [self._signature(metadata.signature or SIGNATURE, inputs, outputs)]
        runtime = minimum_runtime(codes).encode().ljust(16, b"\0")
        entries = {RUNTIME_ENTRY: runtime, **{k: v for k, v in metadata.entries.items() if k != RUNTIME_ENTRY}}
        model.metadata = [self._metadata(*entry) for entry in entries.items()]
        model.buffers = self.buffers
        return model

    def _shorten(self, ends: set[int]) -> None:
        """Number the tensors that are no ends, by names that no end has."""
        taken = {self._tensors[index].name for index in ends}
        numbers = (str(number) for number in count() if str(number) not in taken)
        for index, tensor in enumerate(self._tensors):
            if index not in ends:
                tensor.name = next(numbers)

    def _tensor(self, stored: Stored) -> Any:
        schema = self.schema
        made = schema.TensorT()
        made.name, made.shape, made.hasRank = stored.name, np.array(stored.shape, "<i4"), True
        made.type = getattr(schema.TensorType, stored.dtype.upper())
        made.buffer = 0 if stored.data is None else self.buffer(encoded(stored))
        if stored.quant is not None:
            made.quantization = self._quantization(stored, stored.quant)
        return made

    def _quantization(self, stored: Stored, quant: Quant) -> Any:
        schema = self.schema
        made = schema.QuantizationParametersT()
        if quant.block:
            details = schema.BlockwiseQuantizationT()
            details.scales, details.zeroPoints, details.blockSize = self._scales(stored, quant), -1, quant.block
            made.details, made.detailsType = details, schema.QuantizationDetails.BlockwiseQuantization
            return made
        made.scale, made.zeroPoint = quant.scale.astype("<f4"), quant.zero_point.astype("<i8")
        made.quantizedDimension = quant.axis or 0
        return made

    def _scales(self, stored: Stored, quant: Quant) -> int:
        """The tensor of float16 scales of weights in blocks, by its place."""
        scale = quant.scale.reshape(quant.grid(stored.shape)).astype(np.float16)
        scale = np.maximum(scale, _LEAST_HALF)  # XNNPACK refuses the zero that a scale of next to nothing becomes
        return self.emitter.constant(scale, "float16", hint=f"{stored.name}_scales")

    def _code(self, builtin: str, version: int) -> Any:
        made = self.schema.OperatorCodeT()
        made.builtinCode = operator_codes()[builtin]
        made.deprecatedBuiltinCode = min(made.builtinCode, OLD_CODES_END)
        made.version = version
        return made

    def _operator(self, call: Call, codes: dict[tuple[str, int], int]) -> Any:
        schema = self.schema
        made = schema.OperatorT()
        tensors = self.emitter.tensors
        version = version_of(
            call, [None if i < 0 else tensors[i] for i in call.inputs], [tensors[i] for i in call.outputs]
        )
        made.opcodeIndex = codes.setdefault((call.builtin, version), len(codes))
        made.inputs, made.outputs = call.inputs, call.outputs
        if call.options:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, call.options)
            made.builtinOptions = getattr(schema, f"{call.options}T")()
            for name, value in call.fields.items():
                if not hasattr(made.builtinOptions, name):
                    raise AttributeError(f"{call.options} has no field {name}")
                setattr(made.builtinOptions, name, self._field(name, value))
        return made

    def _field(self, name: str, value: Any) -> Any:
        enums = {
            "fusedActivationFunction": self.schema.ActivationFunctionType,
            "padding": self.schema.Padding,
            "mode": self.schema.MirrorPadMode,
        }
        if isinstance(value, str):
            return getattr(enums.get(name, self.schema.TensorType), value.upper())
        return list(value) if isinstance(value, tuple) else value

    def _signature(self, key: str, inputs: list[int], outputs: list[int]) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key, 0
        made.inputs = [self._named(t, i) for t, i in zip(self.emitter.graph.inputs, inputs, strict=True)]
        made.outputs = [self._named(t, i) for t, i in zip(self.emitter.graph.outputs, outputs, strict=True)]
        return made

    def _named(self, tensor: Tensor, index: int) -> Any:
        made = self.schema.TensorMapT()
        made.name, made.tensorIndex = tensor.name, index
        return made

    def _metadata(self, name: str, data: bytes) -> Any:
        made = self.schema.MetadataT()
        made.name, made.buffer = name, self.buffer(data)
        return made


def output_index(emitter: Emitter, tensor: Tensor) -> int:
    """An output in the hub's layout; a copy where it is an input or a constant as it is."""
    index = emitter.read(tensor)
    if tensor.is_constant or tensor in emitter.graph.inputs:
        copy = emitter.temporary(f"{tensor.name}_output", tensor.shape, tensor)
        index = emitter.reshape(index, tensor.shape, copy)
    return index


def encoded(stored: Stored) -> bytes:
    """The bytes of a constant: 4-bit numbers two to a byte, the first in the low half."""
    data: Array = np.asarray(stored.data)
    if stored.dtype in ("int4", "int2"):
        return pack(data.astype(np.int64).reshape(-1), DType.parse(stored.dtype)).tobytes()
    return data.astype(NUMPY[stored.dtype]).tobytes()
