"""The residual stream x of a language model becomes x R with an orthogonal R, folded into the weights that write or read it.

RMSNorm without its weights commutes with R, so that its weights go into the layers that read it, then Rᵀ; the embedding and
the layers that write to the stream get R (Ashkboos et al. 2024, "SliceGPT", section 3.1, and "QuaRot", section 4, stage 1a).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.edit import set_constant
from fewbit.graph.facts import find_patterns
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.ops import kind_of, weight_of
from fewbit.graph.patterns import Pattern


@dataclass(frozen=True, slots=True)
class Stream:
    """values: all sums along the stream, and what is added to them. width: its channels. writers: nodes whose weight (the
    table of an embedding, the matrix of a product) makes one of the values. constants: (Add, input) of biases on it.
    norms: the RMSNorms that read it. readers: the products that read those."""

    values: tuple[ir.Value, ...]
    width: int
    writers: tuple[ir.Node, ...]
    constants: tuple[tuple[ir.Node, int], ...]
    norms: tuple[Pattern, ...]
    readers: tuple[ir.Node, ...]


def find_stream(hub: Hub) -> Stream | str:
    """The residual stream, if rotating it changes nothing that the model computes; otherwise why not."""
    norms = [pattern for pattern in find_patterns(hub) if pattern.kind == "rms_norm"]
    if not norms:
        return "no RMSNorm reads a residual stream (other normalizations subtract a mean, which a rotation would move)"
    inside = {node for norm in norms for node in norm.nodes}
    found: dict[ir.Value, None] = {}
    writers: dict[ir.Node, None] = {}
    constants: dict[tuple[ir.Node, int], None] = {}
    waiting = [norm.input for norm in norms]
    while waiting:
        value = waiting.pop()
        if value in found:
            continue
        found[value] = None
        node = value.producer()
        obstacle = _trace(node, value, waiting, writers, constants)
        if obstacle is not None:
            return obstacle
        if value.is_graph_output():
            return f"{value.name} of the residual stream is an output of the model"
        for reader in value.consumers():
            if reader.op_type == "Add" and reader not in inside:
                waiting.append(reader.outputs[0])
            elif reader not in inside:
                return f"{reader.name} ({reader.op_type}) reads the residual stream without a normalization"
    width = _width(norms)
    if isinstance(width, str):
        return width
    for add, index in constants:
        if shape_of(add.inputs[index])[-1:] != (width,):  # type: ignore[index]
            return f"{add.name} adds a constant to the residual stream that is not one number a channel"
    readers: dict[ir.Node, None] = {}
    for norm in norms:
        for reader in norm.output.consumers():
            weight = weight_of(reader)
            if reader.op_type != "MatMul" or weight is None or weight.index != 1 or len(weight.shape) != 2:
                return f"{reader.name} ({reader.op_type}) reads a normalization and has no matrix to take its weights"
            readers[reader] = None
        if norm.output.is_graph_output():
            return f"{norm.output.name} of a normalization is an output of the model"
    shared = _shared([*writers, *readers])
    if shared is not None:
        return f"{shared} read the same weight, which they need in different forms"
    return Stream(tuple(found), width, tuple(writers), tuple(constants), tuple(norms), tuple(readers))


def _trace(
    node: ir.Node | None,
    value: ir.Value,
    waiting: list[ir.Value],
    writers: dict[ir.Node, None],
    constants: dict[tuple[ir.Node, int], None],
) -> str | None:
    """Follow a value of the stream to what makes it; why it cannot be rotated, or None."""
    if node is not None and node.op_type == "Add":
        for index, operand in enumerate(node.inputs):
            if operand is not None and operand.const_value is not None:
                constants[node, index] = None
            elif (
                operand is not None
                and shape_of(operand) is not None
                and len(shape_of(operand) or ()) == len(value.shape or ())
            ):
                waiting.append(operand)
            else:
                return f"{node.name} adds values of different ranks to the residual stream"
        return None
    weight = None if node is None else weight_of(node)
    if node is None or weight is None:
        return f"{value.name} enters the residual stream without a weight that could be rotated"
    table = kind_of(node) == "embedding" and weight.out_axis == 0 and len(weight.shape) == 2
    matrix = node.op_type == "MatMul" and weight.index == 1 and len(weight.shape) == 2
    if not table and not matrix:
        return f"{node.name} ({node.op_type}) writes to the residual stream; only embeddings and MatMul can be rotated"
    writers[node] = None
    return None


def _width(norms: list[Pattern]) -> int | str:
    """The channels of the stream, from the weights of its norms."""
    sizes = {_norm_weight(norm)[1].size if _norm_weight(norm) is not None else 0 for norm in norms}  # type: ignore[index]
    if len(sizes) != 1 or 0 in sizes:
        return "a normalization of the residual stream has no weight of one number a channel"
    return int(sizes.pop())


def _norm_weight(norm: Pattern) -> tuple[int, NDArray[np.float64]] | None:
    """(input of the last node, weight) of an RMSNorm that ends with the multiplication by its weight."""
    last = norm.nodes[-1]
    for index, value in enumerate(last.inputs):
        if last.op_type == "Mul" and value is not None and value.const_value is not None:
            array = value.const_value.numpy()
            if array.ndim and array.shape[-1] == array.size:
                return index, np.asarray(array, np.float64)
    return None


def _shared(nodes: list[ir.Node]) -> str | None:
    """Names of nodes that read one weight."""
    for node in nodes:
        weight = weight_of(node)
        readers = [] if weight is None else list(dict.fromkeys(weight.value.consumers()))
        if len(readers) > 1:
            return ", ".join(str(reader.name) for reader in readers)
    return None


def apply(hub: Hub, matrix: NDArray[np.float64]) -> None:
    """Rotate the stream by an orthogonal matrix (width, width); in place."""
    stream = find_stream(hub)
    assert isinstance(stream, Stream)  # the stage that chose the rewrite asked
    for node in stream.writers:
        weight = weight_of(node)
        assert weight is not None
        rotated = np.asarray(hub.constant(weight.value), np.float64) @ matrix
        set_constant(hub, node, weight.index, rotated.astype(np.float32), weight.name)
    for add, index in stream.constants:
        held = np.asarray(hub.constant(add.inputs[index]), np.float64)
        set_constant(hub, add, index, (held @ matrix).astype(np.float32), f"{add.name}_rotated")
    for norm in stream.norms:
        found = _norm_weight(norm)
        assert found is not None
        index, gain = found
        for reader in dict.fromkeys(norm.output.consumers()):
            weight = weight_of(reader)
            assert weight is not None
            product = matrix.T @ (gain.reshape(-1, 1) * np.asarray(hub.constant(weight.value), np.float64))
            set_constant(hub, reader, weight.index, product.astype(np.float32), weight.name)
        set_constant(hub, norm.nodes[-1], index, np.ones(gain.shape, np.float32), f"{norm.nodes[-1].name}_weight")
    renamed = [*stream.values, *(norm.output for norm in stream.norms)]
    for value in renamed:
        name = str(value.name)
        value.name = hub.fresh_name(f"{name}_rotated")  # a name stands for the same numbers in every model
        hub.release_name(name)
