"""LiteRT on a CPU, with XNNPACK: what its kernels take, and what pays.

What computes with integers at all, and under which rules for scales, is in `fewbit.formats.litert.rules`; here is what is
worth it. Every line was seen in the interpreter of ai-edge-litert 2.3, or measured.
"""

from __future__ import annotations

from fewbit.spec import FLOAT16, INT4, INT8, INT16
from fewbit.targets.schema import MOVING, OpRule, Target

_WEIGHTS = (INT8,)
_PACKED = (INT4,)
_ELEMENTWISE = OpRule(("integer",), (INT8, INT16))
_MOVES = OpRule(("passthrough",), (INT8, INT16))
_ONLY8 = OpRule(("integer",), (INT8,))

_OPS: dict[str, OpRule] = {
    "Conv": OpRule(("integer", "dynamic", "storage"), (INT8, INT16), _WEIGHTS),
    "ConvTranspose": OpRule(
        ("storage",), weights=_WEIGHTS, why="its integer kernel was not probed; weights are narrow"
    ),
    # FULLY_CONNECTED; its hybrid kernel takes 4 bits in blocks too.
    "Gemm": OpRule(("integer", "dynamic", "weight_only", "storage"), (INT8, INT16), _WEIGHTS, _PACKED),
    # Of more than two axes, between float nodes: an integer kernel would need a quantized output, and one scale for all rows.
    "MatMul": OpRule(
        ("dynamic", "weight_only", "storage"),
        weights=_WEIGHTS,
        packed=_PACKED,
        why="the hybrid kernel quantizes each row of the activation as it runs and gives float, which costs less accuracy "
        "than integers between float nodes, and no more time",
    ),
    "Gather": OpRule(("storage",), weights=_WEIGHTS),
    "Add": _ELEMENTWISE,
    "Mul": _ELEMENTWISE,
    "Sigmoid": OpRule(("integer",), (INT8, INT16), fixed={INT8: (1 / 256, -128), INT16: (1 / 32768, 0)}),
    "Tanh": OpRule(("integer",), (INT8, INT16), fixed={INT8: (1 / 128, 0), INT16: (1 / 32768, 0)}),
    "LeakyRelu": _ELEMENTWISE,
    "GlobalAveragePool": _ELEMENTWISE,
    "ReduceMean": _ELEMENTWISE,
    "AveragePool": OpRule(("passthrough",), (INT8, INT16)),  # its output has the scale of its input
    "HardSwish": _ONLY8,
    "Concat": OpRule(("passthrough", "integer"), (INT8, INT16)),
    **dict.fromkeys(MOVING, _MOVES),
    **dict.fromkeys(("Resize", "DepthToSpace", "SpaceToDepth"), OpRule(("passthrough",), (INT8,))),
}

_FACTS = (
    "activations are int8, or int16 without a zero point; weights int8 per output channel",
    "16-bit activations have reference kernels only: 0.04 of the float speed",
    "a product of two activations, a softmax and a normalization stay float: LiteRT's own integer kernels, which XNNPACK does "
    "not take, are slower than float in XNNPACK",
    "dynamic int8 of a depthwise convolution is slower than float, so `int8-dynamic` stores its weights narrow instead",
    "weights in `weight_only` form have 4 bits in blocks of a multiple of 32 inputs; the kernel rounds each row of the "
    "activation to 8 bits, and is two to three times as fast as float in layers of some hundred inputs",
    "weights in `storage` form are expanded when the model is loaded: a smaller file at the float speed",
)

LITERT_CPU = Target(
    name="litert-cpu",
    runtime="litert",
    format="litert",
    description="LiteRT (TensorFlow Lite) on a CPU, with XNNPACK",
    ops=_OPS,
    activations="int",
    block_multiple=32,
    stores=(INT8, FLOAT16, INT4),
    facts=_FACTS,
)
