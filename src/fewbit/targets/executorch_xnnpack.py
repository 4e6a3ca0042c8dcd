"""ExecuTorch with XNNPACK: what its kernels take, and what they leave.

Every line was seen in files of ExecuTorch 1.5.1 that its runtime ran: the dtypes of XNNPACK's nodes, and their outputs against
a simulation of the same quantizers.
"""

from __future__ import annotations

from fewbit.spec import INT4, INT8
from fewbit.targets.schema import OpRule, Target

_FLOAT = "XNNPACK as ExecuTorch drives it has no integer kernel for it; in float it is part of the same partition"
_ELEMENTWISE = OpRule(("integer",), (INT8,))
_MOVES = OpRule(("passthrough",), (INT8,))

_OPS: dict[str, OpRule] = {
    "Conv": OpRule(("integer",), (INT8,), (INT8,)),
    "ConvTranspose": OpRule(("integer",), (INT8,), (INT8,)),
    "Gemm": OpRule(("integer", "dynamic", "weight_only"), (INT8,), (INT8,), (INT4,)),
    # Of more than two axes, between float nodes: an integer kernel would need a quantized output, and one scale for all rows.
    "MatMul": OpRule(
        ("dynamic", "weight_only"),
        weights=(INT8,),
        packed=(INT4,),
        why="the dynamic kernel quantizes each row of the activation as it runs and gives float, which costs less accuracy "
        "than integers between float nodes",
    ),
    "Add": _ELEMENTWISE,
    "Sub": _ELEMENTWISE,
    "Mul": _ELEMENTWISE,
    "GlobalAveragePool": _ELEMENTWISE,
    "ReduceMean": OpRule(why="an integer kernel was seen for means of whole images alone (GlobalAveragePool)"),
    **dict.fromkeys(
        ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "MaxPool", "Identity"), _MOVES
    ),
    "Concat": _MOVES,
    "Relu": _MOVES,
    "Clip": _MOVES,
    **dict.fromkeys(
        (
            "Sigmoid",
            "Tanh",
            "Softmax",
            "Gelu",
            "HardSwish",
            "HardSigmoid",
            "LeakyRelu",
            "AveragePool",
            "Max",
            "Min",
        ),
        OpRule(why=_FLOAT),
    ),
    "Gather": OpRule(why="a table is stored in float: ExecuTorch looks rows up in float"),
}

_FACTS = (
    "activations are int8 with one scale, weights int8 per output channel",
    "an integer kernel is read by one quantizer alone, perhaps behind a Relu or Clip; a product without it computes in float, "
    "with float weights in the file",
    "`dynamic` quantizes each row of the activation of a Gemm or MatMul to int8 at every run",
    "weights in `weight_only` form have 4 bits in groups of a multiple of 32 inputs, with scales kept as bfloat16; the kernel "
    "rounds each row of the activation to 8 bits",
    "no weights of convolutions or tables are stored narrow beside float activations",
    "weights of 4 bits beside activations with a fixed scale take a whole byte: XNNPACK has no such kernel",
    "operators without integer kernels run in float between a DequantizeLinear and a QuantizeLinear, without leaving XNNPACK",
    "LayerNormalization, Gather, Slice with steps and Resize run in ExecuTorch's portable kernels, and divide the model into "
    "parts",
    "no 16-bit activations",
)

EXECUTORCH_XNNPACK = Target(
    name="executorch-xnnpack",
    runtime="executorch",
    format="executorch",
    description="ExecuTorch with XNNPACK, on ARM or x86",
    ops=_OPS,
    activations="int",
    block_multiple=32,
    stores=(),
    facts=_FACTS,
)
