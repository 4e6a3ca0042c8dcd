"""Versions of operators: the lowest that has the kernel which a call needs, so that an older runtime refuses the file.

The numbers are LiteRT's (`op_version.cc`, `runtime_version.cc` of its versioning tools). Interpreters accept any version up to
their own; what they do with a call that a version does not know is not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fewbit.formats.litert.write.emit import Call, Stored


@dataclass(frozen=True, slots=True)
class _Facts:
    """What versions depend on: the types and shapes of what a call reads and makes, and its options."""

    call: Call
    inputs: Sequence[Stored | None]
    outputs: Sequence[Stored]

    def dtype(self, index: int = 0) -> str:
        stored = self.inputs[index] if index < len(self.inputs) else None
        return "" if stored is None else stored.dtype

    @property
    def made(self) -> str:
        return self.outputs[0].dtype

    @property
    def rank(self) -> int:
        return max(len(s.shape) for s in self.inputs if s is not None)

    @property
    def broadcasts(self) -> bool:
        shapes = [s.shape for s in self.inputs if s is not None]
        return len(shapes) > 1 and shapes[0] != shapes[1]

    def per_channel(self, index: int) -> bool:
        stored = self.inputs[index]
        return stored is not None and stored.quant is not None and stored.quant.scale.size > 1

    @property
    def has_bias(self) -> bool:
        return len(self.inputs) > 2 and self.inputs[2] is not None


def version_of(call: Call, inputs: Sequence[Stored | None], outputs: Sequence[Stored]) -> int:
    """The version to state for a call."""
    rule = _RULES.get(call.builtin)
    return 1 if rule is None else rule(_Facts(call, inputs, outputs))


def minimum_runtime(codes: Iterable[tuple[str, int]]) -> str:
    """The first release of TensorFlow Lite that has all of these (operator, version), as far as later than 1.14 matters."""
    found = [_RUNTIMES.get(f"{name}:{version}", "1.14.0") for name, version in codes]
    return max(found, key=lambda text: tuple(map(int, text.split("."))), default="1.14.0")


def _conv(f: _Facts) -> int:
    weights = f.inputs[1]
    if weights is not None and f.inputs[0] is not None and weights.shape[-1] != f.inputs[0].shape[-1]:
        return 6  # grouped
    if f.dtype() == "int16":
        return 4
    if f.dtype() == "int8":
        return 7 if f.dtype(1) == "int4" else 3
    if f.dtype(1) in ("int8", "int4"):
        return 7 if f.dtype(1) == "int4" else 5 if f.per_channel(1) else 2
    return 1


def _depthwise(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 5
    if f.dtype() == "int8":
        return 7 if f.dtype(1) == "int4" else 3
    if f.dtype(1) == "int8":
        return 6 if f.per_channel(1) else 4
    dilated = f.call.fields.get("dilationWFactor", 1) != 1 or f.call.fields.get("dilationHFactor", 1) != 1
    return 2 if dilated else 1


def _fully_connected(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 13 if f.dtype(1) == "int4" else 7
    if f.dtype() == "float32" and f.dtype(1) in ("int8", "int4"):
        if f.per_channel(1):
            return 12
        return 9 if f.call.fields.get("asymmetricQuantizeInputs") else 3
    if f.dtype(1) == "int4":
        return 10
    if not f.has_bias:
        return 6
    if f.call.fields.get("keepNumDims"):
        return 5
    return 4 if f.dtype() == "int8" else 1


def _transpose_conv(f: _Facts) -> int:
    if f.call.fields.get("fusedActivationFunction", "NONE") != "NONE":
        return 4
    if len(f.inputs) > 3 and f.inputs[3] is not None:
        return 3
    return 2 if f.dtype(1) == "int8" else 1


def _mul(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 4
    scales = [s.quant.scale[0] for s in (*f.inputs, *f.outputs) if s is not None and s.quant is not None]
    if len(scales) == 3 and scales[0] * scales[1] >= scales[2]:
        return 3
    return 2 if f.dtype() == "int8" else 1


def _sub(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 5
    return 3 if f.broadcasts and f.rank > 4 else 2 if f.dtype() == "int8" else 1


def _maximum(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 4
    return 3 if f.broadcasts and f.rank > 4 else 2 if f.dtype() == "int8" else 1


def _gather(f: _Facts) -> int:
    if f.dtype() == "int4":
        return 7
    if f.call.fields.get("batchDims"):
        return 5
    return {"int16": 4, "bool": 3, "int8": 2}.get(f.dtype(), 1)


def _transpose(f: _Facts) -> int:
    if f.rank > 5:
        return 6
    if f.dtype() == "int16":
        return 5
    return 4 if f.rank > 4 else {"bool": 3, "int8": 2}.get(f.dtype(), 1)


def _slice(f: _Facts) -> int:
    return 5 if f.rank > 4 else {"int16": 4, "int8": 2}.get(f.dtype(), 1)


def _pad(f: _Facts) -> int:
    if f.dtype() == "bool":
        return 5
    return 4 if f.rank > 4 else {"int16": 3, "int8": 2}.get(f.dtype(), 1)


def _strided_slice(f: _Facts) -> int:
    return 4 if f.rank > 4 else {"bool": 3, "int8": 2}.get(f.dtype(), 1)


def _dequantize(f: _Facts) -> int:
    if f.dtype() == "int4":
        return 6
    if f.dtype() in ("int16", "float16"):
        return 3
    return (5 if f.per_channel(0) else 2) if f.dtype() == "int8" else 1


def _quantize(f: _Facts) -> int:
    return (
        3 if f.outputs[0].quant is not None and f.outputs[0].quant.axis is not None else 2 if f.made == "int16" else 1
    )


def _resize_bilinear(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 4
    return 3 if f.call.fields.get("halfPixelCenters") else 2 if f.dtype() == "int8" else 1


def _resize_nearest(f: _Facts) -> int:
    if f.dtype() == "int16":
        return 4
    corners = f.call.fields.get("halfPixelCenters") or f.call.fields.get("alignCorners")
    return 3 if corners else 2 if f.dtype() == "int8" else 1


def _batch_matmul(f: _Facts) -> int:
    return {"int16": 3, "int8": 2}.get(f.dtype(), 4 if f.dtype(1) == "int8" else 1)


def _abs(f: _Facts) -> int:
    return {"int32": 5, "int16": 3, "int8": 2}.get(f.dtype(), 1)


def _split(f: _Facts) -> int:
    return {"int16": 4, "int32": 3, "int8": 2}.get(f.dtype(1), 1)


def _cast(f: _Facts) -> int:
    types = {f.dtype(), f.made}
    return 5 if "float16" in types else 3 if "int8" in types else 1


def _by_type(**versions: int) -> Callable[[_Facts], int]:
    """Versions that depend on the type of the first input alone."""
    return lambda f: versions.get(f.dtype(), 1)


_EIGHT = _by_type(int8=2)
_EIGHT_AND_SIXTEEN = _by_type(int8=2, int16=3)

_RULES: dict[str, Callable[[_Facts], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transpose_conv,
    "BATCH_MATMUL": _batch_matmul,
    "ADD": _EIGHT_AND_SIXTEEN,
    "SUB": _sub,
    "MUL": _mul,
    "DIV": lambda f: 2 if f.broadcasts and f.rank > 4 else 1,
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), _maximum),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D", "TANH", "LOGISTIC", "CONCATENATION"), _EIGHT_AND_SIXTEEN),
    **dict.fromkeys(("SOFTMAX", "MEAN", "MIRROR_PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6"), _EIGHT_AND_SIXTEEN),
    **dict.fromkeys(("RSQRT", "PACK", "TOPK_V2"), _EIGHT_AND_SIXTEEN),
    **dict.fromkeys(
        ("SUM", "LOG_SOFTMAX", "SPLIT_V", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "ARG_MAX", "ARG_MIN"), _EIGHT
    ),
    **dict.fromkeys(("GELU", "L2_NORMALIZATION", "SQUARED_DIFFERENCE", "GREATER", "LESS_EQUAL"), _EIGHT),
    **dict.fromkeys(("LESS", "GREATER_EQUAL"), _EIGHT_AND_SIXTEEN),
    **dict.fromkeys(("EXP", "LOG", "REDUCE_PROD"), _by_type(int8=2, int16=2)),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    "EQUAL": _by_type(int8=2, int16=4),
    "NOT_EQUAL": _EIGHT,
    "LEAKY_RELU": _by_type(int16=2),
    "GATHER": _gather,
    "GATHER_ND": _by_type(int16=3, bool=5),
    "TRANSPOSE": _transpose,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "SPLIT": _split,
    "TILE": _by_type(int8=3),
    "REVERSE_V2": _by_type(int8=3, bool=2),
    "BROADCAST_TO": lambda f: 3 if f.dtype() in ("int8", "int16") else 2,
    "DEQUANTIZE": _dequantize,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "ABS": _abs,
    "SIGN": _by_type(int32=2),
    "FLOOR_DIV": _by_type(int8=3, int16=3, float32=2),
    "FLOOR_MOD": _by_type(int8=2, int16=2),
    "CAST": _cast,
}
"""Operators with more than one version."""

_RELEASES: dict[str, str] = {
    "1.15.0": "DEQUANTIZE:3 GATHER:3 HARD_SWISH:1 MUL:3 QUANTIZE:2 SUM:2 TRANSPOSE:3",
    "2.0.0": "FULLY_CONNECTED:5",
    "2.1.0": "DEPTH_TO_SPACE:1 FULLY_CONNECTED:6 RELU:2 STRIDED_SLICE:3",
    "2.2.0": "DEPTHWISE_CONV_2D:4 RESIZE_BILINEAR:3 REVERSE_V2:2 SELECT_V2:1 STRIDED_SLICE:4 TRANSPOSE_CONV:2",
    "2.3.0": (
        "AVERAGE_POOL_2D:3 BATCH_MATMUL:1 BATCH_MATMUL:2 CONCATENATION:3 CONV_2D:4 DEPTHWISE_CONV_2D:5 "
        "DEPTHWISE_CONV_2D:6 DIV:2 FULLY_CONNECTED:7 FULLY_CONNECTED:9 GATHER_ND:2 LEAKY_RELU:2 LOGISTIC:3 "
        "MAXIMUM:3 MAXIMUM:4 MAX_POOL_2D:3 MINIMUM:3 MINIMUM:4 MUL:4 PACK:3 RESIZE_NEAREST_NEIGHBOR:3 "
        "SOFTMAX:3 SPLIT:4 SPLIT_V:2 SUB:3 TANH:3 TRANSPOSE:4 TRANSPOSE_CONV:3"
    ),
    "2.4.0": (
        "ABS:2 ADD:3 BATCH_MATMUL:3 CONV_2D:5 CUMSUM:1 GATHER:4 MEAN:3 PAD:3 PADV2:3 "
        "RESIZE_NEAREST_NEIGHBOR:4 SLICE:4 SUB:5 TRANSPOSE:5"
    ),
    "2.5.0": (
        "ABS:3 BATCH_MATMUL:4 BROADCAST_TO:2 BROADCAST_TO:3 DEPTH_TO_SPACE:2 GATHER:5 GATHER_ND:3 "
        "REDUCE_MAX:3 REDUCE_MIN:3 RELU6:3 RELU:3 RESIZE_BILINEAR:4 REVERSE_V2:3 RSQRT:2 SLICE:5 "
        "SQUARED_DIFFERENCE:2"
    ),
    "2.6.0": "PAD:4 PADV2:4 REDUCE_PROD:2",
    "2.7.0": "DEQUANTIZE:5",
    "2.8.0": "CAST:3 TILE:3",
    "2.9.0": "CONV_2D:6 GELU:1 GELU:2",
    "2.11.0": "CONV_2D:7 DEPTHWISE_CONV_2D:7 FULLY_CONNECTED:10 SIGN:1",
    "2.12.0": "ABS:5 CAST:5 EXP:2 MIRROR_PAD:3 SIGN:2 TRANSPOSE:6",
    "2.13.0": "EQUAL:4 FLOOR_DIV:3 FLOOR_MOD:2 GREATER_EQUAL:3 LESS:3 TOPK_V2:3 TRANSPOSE_CONV:4",
    "2.15.0": "GATHER:7 LOG:2 RSQRT:3",
    "2.16.0": "GATHER_ND:5",
    "2.17.0": "FULLY_CONNECTED:12",
    "2.18.0": "DEQUANTIZE:6 FULLY_CONNECTED:13 PAD:5 PADV2:5",
}
"""Release → the operators and versions that it brought, where later than 1.14."""

_RUNTIMES = {code: release for release, codes in _RELEASES.items() for code in codes.split()}
