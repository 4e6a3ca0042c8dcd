"""The door: a .tflite file in, an onnx-ir model and notes about the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from fewbit.errors import ModelError, RecipeError
from fewbit.extras import load_extra
from fewbit.formats.litert.read.build import Builder
from fewbit.formats.litert.read.composite import inlined
from fewbit.formats.litert.read.dilated import dilated
from fewbit.formats.litert.read.file import LiteRTFile, Signature, read_bytes
from fewbit.formats.litert.read.ops import OPS, refusal
from fewbit.graph.hub import unique_name

_IR_VERSION = 10
"""The first with 4-bit integers."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A model, and what its user should know about how it came in."""

    model: ir.Model
    notes: tuple[str, ...]


def read_litert(source: str | Path | bytes, *, signature: str | None = None) -> Imported:
    """Import a LiteRT model.

    Inputs and outputs keep the file's shapes, dtypes and order, and the names of the signature where there is one. Integers
    with scales stay integers at both ends; in between, operators work on the numbers that they stand for.

    Args:
        source: a .tflite file, or its bytes.
        signature: the key of the signature to import, or the name of a subgraph. None: the first signature, or else the
            first subgraph.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        ModelError: the file is damaged, or has an operator that does not come in: which one, and what to do.
        RecipeError: there is no such signature.
    """
    load_extra("ai_edge_litert", "a LiteRT model")
    label = "the model" if isinstance(source, bytes) else str(source)
    file = LiteRTFile(source if isinstance(source, bytes) else read_bytes(Path(source)), label)
    chosen, index, notes = _chosen(file, signature)
    subgraph = inlined(file, file.subgraph(index))
    inputs = _interface(
        file, subgraph.inputs, chosen.inputs if chosen else (), [t.name for t in subgraph.tensors], "input"
    )
    outputs = _interface(
        file, subgraph.outputs, chosen.outputs if chosen else (), [t.name for t in subgraph.tensors], "output"
    )
    taken: set[str] = set()
    inputs, outputs = _unique(inputs, taken), _unique(outputs, taken)
    b = Builder(file, subgraph, taken)
    values = [b.input(tensor, name) for tensor, name in zip(subgraph.inputs, inputs, strict=True)]
    for tensor, name in zip(subgraph.outputs, outputs, strict=True):
        b.names.setdefault(tensor, name)
    _operators(b)
    ends = [b.output(tensor, name) for tensor, name in zip(subgraph.outputs, outputs, strict=True)]
    if not ends:
        raise ModelError(f"{label} has a subgraph without outputs, and there is nothing to run in it")
    graph = ir.Graph(values, ends, nodes=b.nodes, initializers=b.initializers, opset_imports={"": b.opset}, name=label)
    model = ir.Model(graph, ir_version=_IR_VERSION, producer_name="LiteRT")
    return Imported(model, (*notes, *dict.fromkeys(b.notes)))


def _operators(b: Builder) -> None:
    operators, gaps = dilated(b)
    for op in operators:
        row = OPS.get(op.name)
        if row is None:
            raise b.refuse(op, refusal(op.name))
        if len(op.inputs) < row.inputs or len(op.outputs) < row.outputs:
            raise b.refuse(
                op,
                f"has {len(op.inputs)} inputs and {len(op.outputs)} outputs: it needs {row.inputs} and {row.outputs}",
            )
        needed = row.inputs if row.needed is None else row.needed
        if -1 in op.inputs[:needed]:
            raise b.refuse(op, f"lacks one of its first {needed} inputs")
        options = None if row.options is None else b.file.options(op, row.options)
        if options is not None and op.index in gaps:
            options.dilationHFactor, options.dilationWFactor = gaps[op.index].gaps
            options.pads = list(gaps[op.index].pads)
        b.begin(op)
        row.handler(b, op, options)


def _chosen(file: LiteRTFile, wanted: str | None) -> tuple[Signature | None, int, list[str]]:
    """The signature, the number of its subgraph, and what is said of the others."""
    if not file.subgraph_count:
        raise file.flat.damaged("it has no subgraph")
    signatures = file.signatures
    if wanted is None:
        found = signatures[0] if signatures else None
        left = [s.key for s in signatures[1:]]
        notes = (
            [f"signature {found.key!r} is imported; signature= chooses another: {', '.join(left)}"]
            if found and left
            else []
        )
        if not signatures and file.subgraph_count > 1:
            bodies = {op.composite for op in file.subgraph(0).operators}
            others = [file.subgraph_name(i) or f"number {i}" for i in range(1, file.subgraph_count) if i not in bodies]
            if others:
                notes = [f"the first subgraph is imported; signature= chooses another by its name: {', '.join(others)}"]
        return found, found.subgraph if found else 0, notes
    for signature in signatures:
        if signature.key == wanted:
            return signature, signature.subgraph, []
    names = [file.subgraph_name(index) for index in range(file.subgraph_count)]
    if wanted in names:
        return None, names.index(wanted), []
    there = ", ".join(repr(name) for name in [*(s.key for s in signatures), *names] if name) or "none"
    raise RecipeError(f"{file.label} has no signature or subgraph {wanted!r}; it has {there}")


def _interface(
    file: LiteRTFile, tensors: Sequence[int], named: Sequence[tuple[str, int]], names: Sequence[str], kind: str
) -> list[str]:
    """Names for inputs or outputs: the signature's, else the tensors' own."""
    by_tensor = {tensor: name for name, tensor in reversed(named)}
    if any(not 0 <= tensor < len(names) for tensor in by_tensor):
        raise file.flat.damaged(f"a signature names tensors that are not among the {len(names)} of its subgraph")
    return [by_tensor.get(tensor) or names[tensor] or f"{kind}_{place}" for place, tensor in enumerate(tensors)]


def _unique(names: Sequence[str], taken: set[str]) -> list[str]:
    made = []
    for name in names:
        made.append(unique_name(name, taken))
        taken.add(made[-1])
    return made
