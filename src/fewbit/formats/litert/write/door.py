"""Write a model as LiteRT."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.formats.litert.write.absorb import absorb
from fewbit.formats.litert.write.build import build
from fewbit.formats.litert.write.check import check
from fewbit.formats.litert.write.dissolve import dissolve
from fewbit.formats.litert.write.emit import Emitter, refuse
from fewbit.formats.litert.write.fuse import fuse_activations, fuse_bias
from fewbit.formats.litert.write.legal import legalize
from fewbit.formats.litert.write.ops import ROWS
from fewbit.formats.litert.write.pack import to_bytes
from fewbit.formats.litert.write.prepare import prepare
from fewbit.formats.litert.write.simplify import simplify
from fewbit.graph.hub import Hub
from fewbit.graph.load import load


@dataclass(frozen=True, slots=True)
class Written:
    """A .tflite file and what a reader of it should know.

    data: the bytes.
    notes: where the file differs from the model: element types of its ends, weights that it cannot hold as integers.
    """

    data: bytes
    notes: tuple[str, ...]


def write_litert(
    model: Hub | ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    metadata: Mapping[str, bytes] | None = None,
    hybrid: bool | Collection[str] = True,
) -> bytes:
    """The bytes of a .tflite file that computes what the model does.

    Args:
        model: float, or with QuantizeLinear and DequantizeLinear: what lies between such a pair is an integer tensor, and
            an operator between them an integer kernel where LiteRT has one.
        shapes: input name → sizes. Left out, a first axis of open size is 1; other open sizes have to be given.
        metadata: name → bytes, kept in the file.
        hybrid: products of a float activation and an integer weight quantize the activation as they run (what LiteRT calls
            dynamic range), where there is a kernel; or the names of the nodes that do. Otherwise weights are dequantized, and
            it computes in float.

    Raises:
        DataError: sizes that are missing or contradict the model.
        ModelError: an operator that LiteRT cannot do exactly as ONNX says; the message has its name and a remedy.
        MissingExtraError: ai-edge-litert is not installed.
    """
    return convert(model, shapes=shapes, metadata=metadata, hybrid=hybrid).data


def convert(
    model: Hub | ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    metadata: Mapping[str, bytes] | None = None,
    hybrid: bool | Collection[str] = True,
) -> Written:
    """`write_litert`, with its notes."""
    given = load(model, normalize=False)
    any_batch = all(info.shape and not isinstance(info.shape[0], int) for info in given.inputs)
    hub = prepare(given, shapes)
    graph = build(hub)
    missing = sorted({op.kind for op in graph.ops if op.kind not in ROWS and op.kind != "DequantizeHalf"})
    if missing:
        raise ModelError(f"LiteRT export has no row for {', '.join(missing)}; export the model without them")
    dissolve(graph)
    simplify(graph)
    fuse_bias(graph)
    fuse_activations(graph)
    absorb(graph, hybrid=hybrid)
    legalize(graph)
    check(graph)
    emitter = Emitter(graph)
    for op in graph.ops:
        ROWS[op.kind](emitter, op)
        left = next(
            (o for o in op.outputs if not emitter.has(o) and (o in emitter.readers or o in graph.outputs)), None
        )
        if left is not None:
            raise refuse(op, f"its output {left.name!r} is read", "LiteRT's operator has no such output")
    return Written(to_bytes(emitter, metadata or {}, any_batch=any_batch), tuple(graph.notes))
