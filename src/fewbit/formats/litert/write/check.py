"""What LiteRT's kernels would compute wrongly, or crash on, without a word: refused before anything is written."""

from __future__ import annotations

from fewbit.errors import ModelError
from fewbit.formats.litert.write.emit import refuse
from fewbit.formats.litert.write.graph import Graph, Tensor

_NARROW = frozenset(("int8", "uint8", "int16", "uint16", "int4", "int2", "uint4", "uint2"))
_MOVES = frozenset(
    (
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Gather", "GatherND", "Concat"),
        *("Expand", "Tile", "Pad", "Identity", "Where", "Cast", "CastLike"),
        *("QuantizeLinear", "DequantizeLinear", "Requantize", "Reinterpret"),
    )
)
"""Operators whose kernels look at no number."""


def check(graph: Graph) -> None:
    """Refuse narrow integers that are no quantized numbers, activations with several scales, and empty tensors.

    Kernels read the scale of every 8-bit tensor, and there is none; of an activation they read the first alone.

    Raises:
        ModelError: what and where.
    """
    for op in graph.ops:
        for tensor in (*op.inputs, *op.outputs):
            if tensor is None:
                continue
            _check_scales(tensor)
            if tensor.dtype in _NARROW and tensor.quant is None and (op.kind not in _MOVES or tensor.dtype == "uint16"):
                raise refuse(
                    op,
                    f"{tensor.name!r} is {tensor.dtype} without a scale, with which LiteRT does not compute",
                    "cast it to int32",
                )
        if any(t is not None and 0 in t.shape for t in op.inputs[:1]) and op.kind not in _MOVES:
            raise refuse(op, f"its input has the shape {op.need(0).shape}", "LiteRT computes with no empty tensors")


def _check_scales(tensor: Tensor) -> None:
    if tensor.quant is not None and tensor.quant.axis is not None and not tensor.is_constant:
        raise ModelError(
            f"activation {tensor.name!r} has {tensor.quant.scale.size} scales, and LiteRT's activations have one; "
            f"quantize it per tensor"
        )
