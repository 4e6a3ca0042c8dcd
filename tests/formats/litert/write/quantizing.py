"""Float graphs with QuantizeLinear and DequantizeLinear put around every operator: full-integer models made by hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

FIXED = {"Softmax": (1 / 256, -128), "Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}
SAME = (
    "Reshape",
    "Flatten",
    "Transpose",
    "MaxPool",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "AveragePool",
    "Pad",
    "Resize",
    "Expand",
    "Tile",
    "Gather",
    "GatherND",
    "ReduceMax",
    "ReduceMin",
    "GlobalMaxPool",
    "DepthToSpace",
    "SpaceToDepth",
)
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _run_all(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    names = [name for node in copy.graph.node for name in node.output]
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, dict(feed)), strict=True)) | dict(feed)


class Quantizer:
    """Makes the QDQ form of a float model from one sample."""

    def __init__(
        self,
        model: onnx.ModelProto,
        feed: Mapping[str, np.ndarray],
        *,
        dtype: str = "int8",
        weight_bits: int = 8,
        fixed: bool = True,
        same: bool = True,
        skip: Collection[str] = (),
    ) -> None:
        self.model, self.dtype, self.bits, self.fixed, self.same = model, dtype, weight_bits, fixed, same
        self.skip = set(skip)
        self.values = _run_all(model, feed)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.added: dict[str, np.ndarray] = {}
        self.read: dict[str, str] = {}
        self.scales: dict[str, tuple[np.float32, int]] = {}

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        for value in graph.input:
            if self.values[value.name].dtype != np.float32:
                continue
            self._around(value.name, value.name, self._range(value.name))
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        outputs = {value.name for value in graph.output}
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            self._weights(copy)
            for index, name in enumerate(node.input):
                if name in self.read:
                    copy.input[index] = self.read[name]
            self.nodes.append(copy)
            for index, name in enumerate(node.output):
                if self.values[name].dtype != np.float32:
                    continue
                after = readers.get(name, [])
                fused = len(after) == 1 and after[0].op_type in ("Relu", "Clip") and node.op_type in (*WEIGHTED, "Add")
                product = node.op_type == "MatMul" and len(after) == 1 and after[0].op_type == "Add"
                fused = fused or (product and any(i in self.constants for i in after[0].input))
                if fused or node.op_type in self.skip or name in self.skip:
                    continue
                if name in outputs:
                    copy.output[index] = f"{name}_real"
                self._around(copy.output[index], name, self._output_scale(node, name), final=name in outputs)
        names = {name for node in self.nodes for name in node.input}
        kept = {k: v for k, v in (self.constants | self.added).items() if k in names}
        return helper.make_model(
            helper.make_graph(
                self.nodes,
                "quantized",
                graph.input,
                graph.output,
                [numpy_helper.from_array(np.asarray(array), name) for name, array in kept.items()],
            ),
            opset_imports=[helper.make_opsetid("", 21)],
            ir_version=10,
        )

    def _output_scale(self, node: onnx.NodeProto, name: str) -> tuple[np.float32, int]:
        if self.fixed and node.op_type in FIXED:
            scale, zero = FIXED[node.op_type]
            if self.dtype == "int16":
                return np.float32(1 / 32768), 0
            return np.float32(scale), zero + (128 if self.dtype == "uint8" else 0)
        if self.same and node.op_type in SAME:
            return self.scales[node.input[0]] if node.input[0] in self.scales else self._range(name)
        return self._range(name)

    def _range(self, name: str) -> tuple[np.float32, int]:
        array = self.values[name]
        low, high = min(float(array.min()), 0.0), max(float(array.max()), 0.0)
        first, last = LIMITS[self.dtype]
        if self.dtype == "int16":
            return np.float32(max(-low, high, 1e-6) / last), 0
        scale = np.float32(max(high - low, 1e-6) / (last - first))
        return scale, int(np.clip(np.rint(first - low / scale), first, last))

    def _around(self, real: str, name: str, params: tuple[np.float32, int], final: bool = False) -> None:
        scale, zero = params
        self.scales[name] = params
        self.added[f"{name}_s"], self.added[f"{name}_z"] = np.float32(scale), np.array(zero, self.dtype)
        inputs = [f"{name}_s", f"{name}_z"]
        result = name if final else f"{name}_dq"
        self.nodes.append(helper.make_node("QuantizeLinear", [real, *inputs], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [result]))
        self.read[name] = result

    def _weights(self, node: onnx.NodeProto) -> None:
        biases = any(name not in self.constants and name not in self.read for name in node.input)
        if node.op_type in ("Add", "Mul", "Sub", "Max", "Min", "PRelu", "Where", "Concat") and not biases:
            for index, name in enumerate(node.input):
                if name in self.constants:
                    self.values[name] = self.constants[name]
                    scale, zero = self._range(name)
                    steps = np.rint(self.constants[name] / scale) + zero
                    self._constant(
                        node, index, np.clip(steps, *LIMITS[self.dtype]).astype(self.dtype), scale, zero, None
                    )
        if node.op_type not in WEIGHTED or node.input[1] not in self.constants:
            return
        weight = self.constants[node.input[1]]
        trans = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or trans else 1
        others = tuple(a for a in range(weight.ndim) if a != axis)
        most = 2 ** (self.bits - 1) - 1
        scale = (np.abs(weight).max(axis=others) / most).astype(np.float32)
        shape = [-1 if a == axis else 1 for a in range(weight.ndim)]
        integers = np.clip(np.rint(weight / scale.reshape(shape)), -most, most).astype(np.int8)
        source = node.input[0]
        self._constant(node, 1, integers, scale, 0, axis)
        if len(node.input) > 2 and self.constants.get(node.input[2], np.zeros((1, 1))).ndim == 1:
            bias = self.constants[node.input[2]]
            in_scale = (self.scales[source][0] * scale).astype(np.float32)
            steps = np.rint(bias.astype(np.float64) / in_scale)
            self._constant(node, 2, np.clip(steps, -(2**31) + 1, 2**31 - 1).astype(np.int32), in_scale, 0, 0)

    def _constant(
        self, node: onnx.NodeProto, index: int, integers: np.ndarray, scale: np.ndarray, zero: int, axis: int | None
    ) -> None:
        name = node.input[index]
        if f"{name}_int" not in self.added:
            self.added |= {f"{name}_int": integers, f"{name}_ws": np.asarray(scale, np.float32)}
            options = {} if axis is None else {"axis": axis}
            inputs = [f"{name}_int", f"{name}_ws"]
            if zero:
                self.added[f"{name}_wz"] = np.array(zero, integers.dtype)
                inputs.append(f"{name}_wz")
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_real"], **options))
        node.input[index] = f"{name}_real"


def quantized(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], **options: object) -> onnx.ModelProto:
    """The QDQ form: ranges from one sample, weights symmetric and per channel, biases at the accumulator's scale."""
    return Quantizer(model, feed, **options).run()  # type: ignore[arg-type]
