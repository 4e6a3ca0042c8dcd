"""Tiny models for `fewbit targets probe`: one for each op, and for each form that needs another wiring.

A body is ONNX's text syntax. The input is x (i for integers), the outputs are y and z. A name says what a constant holds:
`w1_16_8_1_1` random weights of that shape, `ints_1_8_4_9` those integers, and the names in `_CONSTANTS`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.graph.load import load
from fewbit.plan.balanced import effective_weight
from fewbit.plan.plan import Plan
from fewbit.targets import Form

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_OPSET = 17

# Most ops stand between two convolutions, so that integers come in and are read. `h` is what the op makes of `a`.
_BETWEEN = {
    "Sigmoid": "h = Sigmoid(a)",
    "Tanh": "h = Tanh(a)",
    "ReduceMean": "h = ReduceMean<axes=[2,3]>(a)",
    "LeakyRelu": "h = LeakyRelu<alpha=0.1>(a)",
    "HardSigmoid": "g = HardSigmoid<alpha=0.2, beta=0.5>(a) h = Mul(a, g)",  # a convolution alone would absorb it
    "HardSwish": "h = HardSwish(a)",
    "Add": "b = Conv(x, w2_8_8_1_1) h = Add(a, b)",
    "Mul": "b = Conv(x, w2_8_8_1_1) h = Mul(a, b)",
    "AveragePool": "h = AveragePool<kernel_shape=[2,2]>(a)",
    "GlobalAveragePool": "h = GlobalAveragePool(a)",
    "Reshape": "h = Reshape(a, ints_1_8_4_9)",
    "Transpose": "h = Transpose<perm=[0,1,3,2]>(a)",
    "Slice": "h = Slice(a, ints_1, ints_5, ints_3)",
    "Split": "h, k = Split<axis=3>(a, ints_2_4) z = Conv(k, w3_8_8_1_1)",
    "Expand": "p = MaxPool<kernel_shape=[6,6]>(a) h = Expand(p, ints_1_8_6_6)",
    "MaxPool": "h = MaxPool<kernel_shape=[2,2]>(a)",
    "Pad": "p = Pad(a, ints_0_0_1_1_0_0_1_1) h = Transpose<perm=[0,1,3,2]>(p)",  # a convolution alone would absorb it
    "Resize": 'h = Resize<mode="nearest">(a, , twice)',
    "Identity": "h = Identity(a)",
    "Relu": "p = MaxPool<kernel_shape=[2,2]>(a) h = Relu(p)",
    "Clip": "p = MaxPool<kernel_shape=[2,2]>(a) h = Clip(p, low, high)",
}
_ALONE = {
    "Conv": "y = Conv(x, w1_64_8_3_3, w2_64)",
    "ConvTranspose": "y = ConvTranspose(x, w1_8_64_3_3, w2_64)",
    "Gemm": "y = Gemm(x, w1_256_64, w2_64)",
    "MatMul": "m = MatMul(x, w1_256_64) y = Add(m, w2_64)",
    "Gather": "y = Gather(w1_256_256, i)",
    "LSTM": "y = LSTM<hidden_size=32>(x, w1_1_128_32, w2_1_128_32, w3_1_256)",
    "GRU": "y = GRU<hidden_size=32>(x, w1_1_96_32, w2_1_96_32, w3_1_192)",
    "RNN": "y = RNN<hidden_size=32>(x, w1_1_32_32, w2_1_32_32, w3_1_64)",
    "Concat": "a = Conv(x, w1_8_8_1_1) b = Conv(x, w2_8_8_1_1) h = Concat<axis=1>(a, b) y = Conv(h, w4_8_16_1_1)",
    "Squeeze": "a = Conv(x, w1_8_8_6_1) h = Squeeze(a, ints_2) y = Conv(h, w2_8_8_1)",
    "Unsqueeze": "r = Reshape(x, ints_1_8_36) a = Conv(r, w1_8_8_1) h = Unsqueeze(a, ints_2) y = Conv(h, w2_8_8_1_1)",
    "Flatten": "a = Conv(x, w1_8_8_1_1) h = Flatten(a) y = Gemm(h, w2_288_16)",
    "DepthToSpace": "a = Conv(x, w1_32_8_1_1) h = DepthToSpace<blocksize=2>(a) y = Conv(h, w2_8_8_1_1)",
    "SpaceToDepth": "a = Conv(x, w1_8_8_1_1) h = SpaceToDepth<blocksize=2>(a) y = Conv(h, w2_8_32_1_1)",
}
_BY_FORM: dict[tuple[str, Form], str] = {
    ("Concat", "integer"): f"{_ALONE['Concat']} z = Conv(a, w5_8_8_1_1)",  # a keeps a scale of its own
    ("Relu", "absorbed"): "a = Conv(x, w1_8_8_1_1) h = Relu(a) y = Conv(h, w2_8_8_1_1)",
    ("Clip", "absorbed"): "a = Conv(x, w1_8_8_1_1) h = Clip(a, low, high) y = Conv(h, w2_8_8_1_1)",
}
_INPUTS = {
    "Gemm": "float[4,256] x",  # two groups of 128 weights
    "MatMul": "float[1,4,256] x",
    "Gather": "int64[1,16] i",
    **dict.fromkeys(("LSTM", "GRU", "RNN"), "float[5,1,32] x"),
}
_IMAGE = "float[1,8,6,6] x"
_CONSTANTS: dict[str, NDArray[Any]] = {
    "low": np.asarray(-0.5, np.float32),
    "high": np.asarray(0.5, np.float32),
    "twice": np.asarray([1, 1, 2, 2], np.float32),
}


def tiny_model(op: str, form: Form) -> onnx.ModelProto | None:
    """A model in which the op can take the form, or None if there is none for this op. The same on each call."""
    import onnx

    body = _BY_FORM.get((op, form)) or _ALONE.get(op)
    if body is None and op in _BETWEEN:
        body = f"a = Conv(x, w1_8_8_1_1) {_BETWEEN[op]} y = Conv(h, w9_8_8_1_1)"
    if body is None:
        return None
    outputs = ", ".join(f"float[] {name}" for name in ("y", "z") if re.search(rf"\b{name} = ", body))
    text = f'<ir_version: 8, opset_import: ["" : {_OPSET}]> g ({_INPUTS.get(op, _IMAGE)}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name in sorted(set(re.findall(r"\bw\d_[\d_]+\b", body))):
        shape = [int(n) for n in name.split("_")[1:]]
        weight = random.standard_normal(shape) / np.sqrt(max(shape[-1], math.prod(shape[1:])))
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), name))
    for name in sorted(set(re.findall(r"\bints_[\d_]+\b", body))):
        integers = np.asarray([int(n) for n in name.split("_")[1:]], np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(integers, name))
    for name, array in _CONSTANTS.items():
        if re.search(rf"\b{name}\b", body):
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def tiny_feeds(model: onnx.ModelProto, count: int) -> list[dict[str, NDArray[Any]]]:
    """Samples: normal numbers, or integers below 256."""
    import onnx

    random = np.random.default_rng(1)
    (given,) = model.graph.input
    shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
    if given.type.tensor_type.elem_type == onnx.TensorProto.INT64:
        return [{given.name: random.integers(0, 256, shape)} for _ in range(count)]
    return [{given.name: random.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def same_weights(model: onnx.ModelProto, plan: Plan) -> ir.Model:
    """The float model with the weights that the narrow ones of a plan stand for; 16-bit floats as they were before."""
    import onnx_ir as ir

    hub = load(model)
    values = {str(value.name): value for value in hub.values()}
    for name, site in plan.constants().items():
        if site.params is None:
            continue
        reader = next(node for node in values[name].consumers() if str(node.name) in plan.nodes)
        values[name].const_value = ir.tensor(effective_weight(hub, plan, reader, values[name]), name=name)
    return hub.model
