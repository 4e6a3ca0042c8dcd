"""TFLite Micro on microcontrollers: what its kernels take.

It has no processor for float worth the name, so everything is integers. Rules for scales are those of LiteRT, in
`fewbit.formats.litert.rules`; here are the operators for which TFLite Micro registers integer kernels.
"""

from __future__ import annotations

from dataclasses import replace

from fewbit.spec import INT8, INT16
from fewbit.targets.schema import MOVING, OpRule, Target

_BOTH = (INT8, INT16)
_WEIGHTED = OpRule(("integer",), _BOTH, (INT8,))
_ELEMENTWISE = OpRule(("integer",), _BOTH)
_MOVES = OpRule(("passthrough",), _BOTH)
_MOVES8 = OpRule(("passthrough",), (INT8,))
_UNIT = {INT8: (1 / 256, -128), INT16: (1 / 32768, 0)}

_OPS: dict[str, OpRule] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _WEIGHTED),
    # FULLY_CONNECTED, whose kernels have one scale for a weight; those with one a channel came years later (version 12), and
    # not everywhere. Of two activations a MatMul is BATCH_MATMUL.
    **dict.fromkeys(("Gemm", "MatMul"), replace(_WEIGHTED, per_channel=False)),
    **dict.fromkeys(("Add", "Sub", "Mul", "LeakyRelu", "GlobalAveragePool", "ReduceMean"), _ELEMENTWISE),
    **dict.fromkeys(("Sigmoid", "Softmax"), OpRule(("integer",), _BOTH, fixed=_UNIT)),
    "Tanh": OpRule(("integer",), _BOTH, fixed={INT8: (1 / 128, 0), INT16: (1 / 32768, 0)}),
    "LogSoftmax": OpRule(("integer",), (INT8,), fixed={INT8: (16 / 256, 127)}),
    "HardSwish": OpRule(("integer",), (INT8,)),
    "Concat": OpRule(("passthrough", "integer"), _BOTH),
    **dict.fromkeys((*MOVING, "AveragePool"), _MOVES),
    **dict.fromkeys(("Resize", "SpaceToDepth", "ReduceMax", "GlobalMaxPool"), _MOVES8),
    # TFLite Micro has these, but LiteRT's reference kernels, by which files are checked, do not, or give other numbers.
    **dict.fromkeys(
        ("Elu", "DepthToSpace", "ReduceSum"),
        OpRule(why="LiteRT's reference kernels, by which files are checked, lack it"),
    ),
    **dict.fromkeys(
        ("LSTM", "GRU", "RNN"),
        OpRule(why="a recurrent state is fed back at every step, so a fixed range saturates it"),
    ),
}

_FACTS = (
    "every operator computes with integers; a model with one that cannot is refused, and the message names it",
    "activations are int8 with a zero point, or int16 without one (a16w8); weights int8, of convolutions per output "
    "channel, of dense layers with one scale; biases int32 (int64 beside int16)",
    "inputs and outputs are integers, or with --io float QUANTIZE and DEQUANTIZE stand at the ends",
    "files are checked with LiteRT's reference kernels, which microcontrollers run; no time is measured",
)

LITERT_MICRO = Target(
    name="litert-micro",
    runtime="litert-micro",
    format="litert",
    description="TFLite Micro on a microcontroller: integers alone",
    ops=_OPS,
    activations="int",
    stores=(INT8,),
    integers_only=True,
    recipes=("int8", "a16w8"),
    facts=_FACTS,
)
