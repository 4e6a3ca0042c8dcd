"""Small LiteRT models for tests, made with the object form of its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from tests.models import Builder

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}


class TfliteBuilder:
    """Collects tensors and operators of one graph; tensors are known by their names."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]  # the first is empty: that of tensors without data
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.names: list[str] = []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scale: Any = None,
        zero_point: int = 0,
        axis: int = 0,
        variable: bool = False,
    ) -> str:
        """A tensor that is computed; -1 in a shape is a size that may be anything."""
        made = schema.TensorT()
        made.name, made.type, made.isVariable = name, _TYPES[dtype], variable
        made.hasRank = True
        made.shape = [1 if n < 0 else n for n in shape]
        made.shapeSignature = list(shape) if min(shape, default=0) < 0 else None
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scales
            made.quantization.zeroPoint = np.full(scales.shape, zero_point, np.int64)
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        self.names.append(name)
        return name

    def constant(self, name: str, array: NDArray[Any], **options: Any) -> str:
        """A tensor whose values the file holds."""
        self.tensor(name, array.shape, str(array.dtype), **options)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.graph.tensors[-1].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return name

    def op(self, op: str, inputs: Sequence[str], outputs: Sequence[str], options: Any = None, version: int = 1) -> None:
        """An operator; an input without a name is left out. options: an object of the schema, such as Conv2DOptionsT."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, op)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes)
        made.inputs = [self.names.index(name) if name else -1 for name in inputs]
        made.outputs = [self.names.index(name) for name in outputs]
        if options is not None:
            made.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(made)

    def save(
        self,
        path: Path,
        inputs: Sequence[str],
        outputs: Sequence[str],
        signature: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
    ) -> Path:
        """Write the file; signature: its names of inputs and outputs → names of tensors."""
        self.graph.inputs = [self.names.index(name) for name in inputs]
        self.graph.outputs = [self.names.index(name) for name in outputs]
        self.model.subgraphs = [self.graph]
        if signature is not None:
            made = schema.SignatureDefT()
            made.signatureKey, made.subgraphIndex = "serving_default", 0
            made.inputs, made.outputs = (self._maps(ends) for ends in signature)
            self.model.signatureDefs = [made]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    def _maps(self, ends: Mapping[str, str]) -> list[Any]:
        maps = []
        for name, tensor in ends.items():
            made = schema.TensorMapT()
            made.name, made.tensorIndex = name, self.names.index(tensor)
            maps.append(made)
        return maps


def weights() -> dict[str, NDArray[np.float32]]:
    """Of the network below: conv (O, H, W, I), dense (O, I)."""
    random = np.random.default_rng(0)
    shapes = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,), "dense.weight": (4, 128), "dense.bias": (4,)}
    return {name: (random.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


# The largest magnitudes that normal inputs lead to, as the int8 form needs them.
_INPUT, _HIDDEN, _OUTPUT = 4.0, 6.0, 12.0


def conv_net(path: Path, quantized: bool = False, suffix: str = "") -> Path:
    """x (N, 8, 8, 3) → convolution of stride 2 with Relu → dense layer → y (N, 4), in float or in int8.

    suffix: of the names of input and output.
    """
    b, dtype = TfliteBuilder(), "int8" if quantized else "float32"
    steps: dict[str, tuple[float | None, int]] = {
        "x": (_INPUT / 127, 0),
        "hidden": (_HIDDEN / 255, -128),
        "flat": (_HIDDEN / 255, -128),
        "y": (_OUTPUT / 127, 0),
    }
    names = {"x": f"x{suffix}", "y": f"y{suffix}"}
    for name, shape in {"x": (-1, 8, 8, 3), "hidden": (-1, 4, 4, 8), "flat": (-1, 128), "y": (-1, 4)}.items():
        scale, zero = steps[name] if quantized else (None, 0)
        b.tensor(names.get(name, name), shape, dtype, scale, zero)
    b.constant("shape", np.array([-1, 128], np.int32))
    for layer, source in (("conv", "x"), ("dense", "flat")):
        _layer_constants(b, layer, steps[source][0] if quantized else None)
    conv = schema.Conv2DOptionsT()
    conv.padding, conv.strideH, conv.strideW = schema.Padding.SAME, 2, 2
    conv.fusedActivationFunction = schema.ActivationFunctionType.RELU
    b.op("CONV_2D", [names["x"], "conv.weight", "conv.bias"], ["hidden"], conv, version=3 if quantized else 1)
    b.op("RESHAPE", ["hidden", "shape"], ["flat"], schema.ReshapeOptionsT())
    dense = ["flat", "dense.weight", "dense.bias"]
    b.op("FULLY_CONNECTED", dense, [names["y"]], schema.FullyConnectedOptionsT(), version=4 if quantized else 1)
    return b.save(path, [names["x"]], [names["y"]])


def _layer_constants(b: TfliteBuilder, layer: str, input_scale: float | None) -> None:
    weight, bias = weights()[f"{layer}.weight"], weights()[f"{layer}.bias"]
    if input_scale is None:
        b.constant(f"{layer}.weight", weight)
        b.constant(f"{layer}.bias", bias)
        return
    scale = np.abs(weight).max(axis=tuple(range(1, weight.ndim))) / 127
    integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
    b.constant(f"{layer}.weight", integers, scale=scale)
    b.constant(f"{layer}.bias", np.rint(bias / (scale * input_scale)).astype(np.int32), scale=scale * input_scale)


def conv_net_onnx(path: Path) -> Path:
    """The same network in ONNX: image (N, 3, 8, 8) → scores (N, 4)."""
    b, w = Builder(), weights()
    kernel = b.constant(w["conv.weight"].transpose(0, 3, 1, 2))
    # SAME with stride 2 on 8 pixels pads one at the end.
    conv = b.node("Conv", ["image", kernel, b.constant(w["conv.bias"])], strides=[2, 2], pads=[0, 0, 1, 1])
    last = b.node("Transpose", [b.node("Relu", [conv], "hidden")], perm=[0, 2, 3, 1])
    flat = b.node("Flatten", [last])
    b.node("Gemm", [flat, b.constant(w["dense.weight"]), b.constant(w["dense.bias"])], "scores", transB=1)
    return b.save(path, {"image": ("N", 3, 8, 8)}, ["scores"])


def memory_net(path: Path) -> Path:
    """x (1, 2) → SVDF that remembers the last 3 samples → y (1, 1)."""
    b = TfliteBuilder()
    b.tensor("x", (1, 2))
    b.constant("features", np.ones((1, 2), np.float32))
    b.constant("times", np.ones((1, 3), np.float32))
    b.tensor("state", (1, 3), variable=True)
    b.tensor("y", (1, 1))
    options = schema.SVDFOptionsT()
    options.rank = 1
    b.op("SVDF", ["x", "features", "times", "", "state"], ["y"], options)
    return b.save(path, ["x"], ["y"])


def images(count: int = 1) -> NDArray[np.float32]:
    """Inputs of the network, channels last."""
    return np.random.default_rng(1).standard_normal((count, 8, 8, 3)).astype(np.float32)
