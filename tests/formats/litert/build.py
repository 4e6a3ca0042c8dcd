"""Small .tflite files for tests, made with the schema's object API, and the interpreter that says what they compute."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx_ir as ir

from fewbit.formats.litert import schema


class Tflite:
    """Collects tensors and operators; `data` is the file.

    In `first` mode every float input of four axes goes through a 1x1 convolution, so that what follows reads a value that is
    held with its channels first.
    """

    def __init__(self, seed: int = 0, *, first: bool = False) -> None:
        self.api = schema.schema()
        self.model = self.api.ModelT()
        self.model.version = schema.VERSION
        self.model.buffers = [self.api.BufferT()]
        self.model.operatorCodes = []
        self.graph = self.api.SubGraphT()
        self.graph.tensors, self.graph.inputs, self.graph.outputs, self.graph.operators = [], [], [], []
        self.graph.name = b"main"
        self.model.subgraphs = [self.graph]
        self.first = first
        self.random = np.random.default_rng(seed)

    def tensor(
        self,
        shape: Sequence[int] | None,
        dtype: str = "float32",
        name: str | None = None,
        *,
        scale: Any = None,
        zero: Any = 0,
        axis: int = 0,
        signature: Sequence[int] | None = None,
    ) -> int:
        """An activation. scale and zero: numbers, or lists with one for each entry of `axis`."""
        made = self.api.TensorT()
        made.shape = None if shape is None else list(shape)
        made.type = schema.TENSOR_CODES[ir.DataType[_NAMES.get(dtype, dtype).upper()]]
        made.name = (name or f"tensor{len(self.graph.tensors)}").encode()
        made.hasRank = shape is not None
        made.shapeSignature = None if signature is None else list(signature)
        if scale is not None:
            made.quantization = self.api.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            made.quantization.zeroPoint = np.broadcast_to(
                np.asarray(zero, np.int64), made.quantization.scale.shape
            ).copy()
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def input(self, shape: Sequence[int], dtype: str = "float32", name: str | None = None, **options: Any) -> int:
        index = self.tensor(shape, dtype, name, **options)
        self.graph.inputs.append(index)
        if not (self.first and len(shape) == 4 and dtype == "float32" and not options):
            return index
        channels = shape[3]
        weight = np.eye(channels, dtype=np.float32)[:, None, None, :] * 0.9
        bias = self.constant(np.linspace(-0.1, 0.1, channels, dtype=np.float32))
        return self.op(
            "CONV_2D", [index, self.constant(weight), bias], shape, "Conv2DOptions", strideW=1, strideH=1, padding=1
        )

    def constant(self, array: Any, name: str | None = None, dtype: str | None = None, **options: Any) -> int:
        """A constant. Lists become int32; bytes can be given for the dtypes that numpy lacks, with a shape in `shape`."""
        if isinstance(array, bytes):
            index = self.tensor(options.pop("shape"), dtype or "int8", name, **options)
            data = np.frombuffer(array, np.uint8)
        else:
            array = np.asarray(array, np.int32) if isinstance(array, int | list) else np.asarray(array)
            index = self.tensor(array.shape, dtype or str(array.dtype), name, **options)
            data = np.frombuffer(array.tobytes(), np.uint8)
        buffer = self.api.BufferT()
        buffer.data = data
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def sparse(self, array: np.ndarray, block: int = 1) -> int:
        """A constant matrix of which only what is not zero is stored, in blocks along a row."""
        rows, columns = array.shape
        parts = array.reshape(rows, columns // block, block)
        there = parts.any(axis=2)
        index = self.constant(parts[there].reshape(-1))
        self.graph.tensors[index].shape = [rows, columns]
        sparsity = self.graph.tensors[index].sparsity = self.api.SparsityParametersT()
        sparsity.traversalOrder = [0, 1, 2][: 2 + (block > 1)]
        sparsity.blockMap = [1] if block > 1 else []
        levels = [self.api.DimensionMetadataT() for _ in sparsity.traversalOrder]
        levels[0].format, levels[0].denseSize = self.api.DimensionType.DENSE, rows
        levels[1].format = self.api.DimensionType.SPARSE_CSR
        levels[1].arraySegmentsType = levels[1].arrayIndicesType = self.api.SparseIndexVector.Int32Vector
        levels[1].arraySegments, levels[1].arrayIndices = self.api.Int32VectorT(), self.api.Int32VectorT()
        levels[1].arraySegments.values = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32)
        levels[1].arrayIndices.values = np.nonzero(there)[1].astype(np.int32)
        if block > 1:
            levels[2].format, levels[2].denseSize = self.api.DimensionType.DENSE, block
        sparsity.dimMetadata = levels
        return index

    def weight(self, *shape: int, scale: float = 0.5) -> int:
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        output: Any,
        options: str | None = None,
        *,
        dtype: str = "float32",
        custom: str | None = None,
        version: int = 1,
        **fields: Any,
    ) -> int:
        """An operator. output: the shape of its only output, or the index of a tensor; or a list of indices."""
        several = isinstance(output, list) and all(isinstance(i, int) for i in output) and fields.pop("several", False)
        outputs = output if several else [output if isinstance(output, int) else self.tensor(output, dtype)]
        made = self.api.OperatorT()
        made.opcodeIndex = self._code(name, custom, version)
        made.inputs, made.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if options is not None:
            made.builtinOptionsType = getattr(self.api.BuiltinOptions, options)
            made.builtinOptions = getattr(self.api, f"{options}T")()
            for field, value in fields.items():
                assert hasattr(made.builtinOptions, field), field
                setattr(made.builtinOptions, field, value)
        self.graph.operators.append(made)
        return int(outputs[0])

    def outputs(self, *indices: int) -> None:
        self.graph.outputs = list(indices)

    def data(self) -> bytes:
        """The file. Without outputs said, those of the last operator are."""
        if not len(self.graph.outputs):
            self.graph.outputs = list(self.graph.operators[-1].outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=schema.IDENTIFIER)
        return bytes(builder.Output())

    def _code(self, name: str, custom: str | None, version: int) -> int:
        made = self.api.OperatorCodeT()
        code = schema.operator_codes()[name]
        made.builtinCode, made.deprecatedBuiltinCode = code, min(code, schema.OLD_CODES_END)
        made.customCode = None if custom is None else custom.encode()
        made.version = version
        for index, known in enumerate(self.model.operatorCodes):
            if (known.builtinCode, known.customCode, known.version) == (code, made.customCode, version):
                return index
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1


_NAMES = {"float32": "float", "float64": "double"}


def run_litert(data: bytes, feed: Sequence[np.ndarray], *, xnnpack: bool = False) -> list[np.ndarray]:
    """The outputs of the interpreter, without delegates unless asked."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=kind)
    for detail, array in zip(interpreter.get_input_details(), feed, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), feed, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.reset_all_variables()
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def run_hub(model: ir.Model, feed: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model in ONNX Runtime, with its graph as it is."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    if not isinstance(feed, Mapping):
        feed = {i.name: array for i, array in zip(session.get_inputs(), feed, strict=True)}
    return session.run(None, dict(feed))
