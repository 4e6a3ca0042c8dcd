"""ONNX Runtime on a CPU: what its kernels take, and what pays.

Every line was seen in the optimized graph of version 1.32, or measured.
"""

from __future__ import annotations

from dataclasses import replace

from fewbit.spec import INT8, UINT8, UINT16, DType
from fewbit.targets.schema import MOVING, OpRule, Target

# MatMulNBits and GatherBlockQuantized have 2, 4 and 8 bits; 3 lie in 4.
_PACKED = tuple(DType(kind, bits) for kind in ("int", "uint") for bits in (2, 3, 4, 8))
_ELEMENTWISE = OpRule(("integer",), (UINT8, UINT16))
_MOVES = OpRule(("passthrough",), (UINT8,))

_OPS: dict[str, OpRule] = {
    # QLinearConv; needs the output quantized, or the runtime dequantizes the weights at every run.
    "Conv": OpRule(("integer", "storage"), (UINT8, UINT16), (INT8,)),
    "ConvTranspose": OpRule(
        ("storage",), weights=(INT8,), why="ONNX Runtime has no integer ConvTranspose; its weights are stored narrow"
    ),
    # QGemm, or MatMulNBits of the weights alone; the weight must be (K, N), with a zero point that is written out.
    "Gemm": OpRule(
        ("integer", "dynamic", "weight_only", "storage"), (UINT8, UINT16), (INT8,), _PACKED, output="optional"
    ),
    # MatMulIntegerToFloat, DynamicQuantizeMatMul, or MatMulNBits of the weights alone.
    "MatMul": OpRule(
        ("integer", "dynamic", "weight_only", "storage"), (UINT8, UINT16), (INT8,), _PACKED, output="never"
    ),
    # The table is gathered as integers and only the rows in use are expanded: GatherBlockQuantized, or Gather and Cast.
    "Gather": OpRule(("weight_only", "storage"), weights=(INT8,), packed=_PACKED),
    "LSTM": OpRule(
        ("dynamic", "storage"),
        weights=(INT8,),
        why="a recurrent state is fed back at every step, so a fixed range saturates it: no static integer LSTM",
    ),
    "GRU": OpRule(("storage",), weights=(INT8,), why="ONNX Runtime has no integer GRU; its weights are stored narrow"),
    "RNN": OpRule(("storage",), weights=(INT8,), why="ONNX Runtime has no integer RNN; its weights are stored narrow"),
    "Add": _ELEMENTWISE,
    "Mul": _ELEMENTWISE,
    "Sigmoid": _ELEMENTWISE,  # a table of 256 entries
    "LeakyRelu": _ELEMENTWISE,  # a table of 256 entries
    "HardSigmoid": OpRule(("integer",), (UINT8,)),  # QLinearAdd whose saturation is the clipping
    "HardSwish": OpRule(("integer",), (UINT8,)),  # QLinearAdd and QLinearMul
    "AveragePool": _ELEMENTWISE,
    "GlobalAveragePool": _ELEMENTWISE,
    "Concat": OpRule(("passthrough", "integer"), (UINT8,)),
    **dict.fromkeys((*MOVING, "Expand", "Resize", "DepthToSpace", "SpaceToDepth"), _MOVES),
}

# benchmarks/weight_only.py: 4 bits on one thread of AVX2 without VNNI. Below 256 · 256 weights the call costs more than it
# saves; above 4 M the weights no longer stay in the cache, and reading fewer bytes pays for more rows.
_WEIGHT_ONLY_ROWS = ((1 << 16, 2), (1 << 22, 8))

_FACTS = (
    "activations are uint8, weights int8 per output channel: int8 activations leave convolutions in float",
    "a MatMul keeps its output in float: quantizing it costs more than it saves",
    "a MatMul of two activations stays float: quantizing both operands costs what the integer kernel saves",
    "dynamic int8 of a convolution runs at 0.05 to 0.13 of the float speed, so `int8-dynamic` stores its weights "
    "narrow instead",
    "16-bit activations have no integer kernel: a16w8 and w4a16 compute in float, for accuracy and portability, not speed",
    "16-bit activations of a Gemm whose output is quantized are rounded to 8 bits inside MatMulNBits (45 dB), unless the "
    "session sets session.qdq_matmulnbits_accuracy_level to 1",
    "activations of fewer than 8 bits are uint8 tensors held to fewer levels by a Clip: no kernel gains by them, other "
    "hardware may",
    "weights in `weight_only` form are never expanded, which saves memory; MatMulNBits rounds the activations of every block "
    "to 8 bits inside (relative error 0.005), and is faster than float for a few rows, slower for many",
    "weights in `storage` form are expanded once, when the model is loaded: a smaller file at the float speed",
)

ORT_CPU = Target(
    name="ort-cpu",
    runtime="onnxruntime",
    format="onnx",
    description="ONNX Runtime on this machine's CPU",
    ops=_OPS,
    weight_only_rows=_WEIGHT_ONLY_ROWS,
    facts=_FACTS,
)

ORT_CPU_AVX2 = replace(
    ORT_CPU,
    name="ort-cpu-avx2",
    description="ONNX Runtime on any x86 CPU, also without VNNI",
    weight_bits=7,
    pair_limit=128,
    facts=(
        *_FACTS,
        "without VNNI two u8·s8 products are added in 16 bits and saturate: the 8-bit weights of two neighbouring inputs "
        "add up to at most 128, and where they cannot be held to that they keep to 7 bits",
    ),
)

ORT_CPU_VNNI = replace(ORT_CPU, name="ort-cpu-vnni", description="ONNX Runtime on x86 with VNNI or AMX, or on ARM")
