"""Outputs that are probabilities or decisions: what a saturating function hides there, and where the highest value counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.ops import info_of, weight_of

_HEADS = ("Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class Squash:
    """The function that made probabilities of scores, and for Softmax the axis along which they add up to one."""

    kind: Literal["softmax", "sigmoid"]
    axis: int = -1


def squashed_outputs(hub: Hub) -> dict[str, Squash]:
    """The graph outputs that a Softmax or Sigmoid makes, by name."""
    found: dict[str, Squash] = {}
    for value in hub.graph.outputs:
        made = _before_reshapes(hub, value)
        node = made.producer()
        if node is None:
            continue
        if node.op_type == "Softmax" and (made is value or _along_the_last(hub, node)):
            found[str(value.name)] = Squash("softmax", node.attributes.get_int("axis", -1) if made is value else -1)
        elif node.op_type == "Sigmoid":
            found[str(value.name)] = Squash("sigmoid")
    return found


def decisions(hub: Hub) -> set[str]:
    """The graph outputs whose highest value is likely to be the answer: what a Softmax or a dense layer makes.

    A dense layer that gives as many numbers as the graph is given reconstructs its input, and chooses nothing.
    """
    given = {tuple(info.shape[1:]) for info in hub.inputs if info.shape is not None and len(info.shape) == 2}
    found = set()
    for value in hub.graph.outputs:
        node = value.producer()
        shape = hub.shape(value)
        if node is None or not shape or (isinstance(shape[-1], int) and shape[-1] < 2):
            continue
        squash = _before_reshapes(hub, value).producer()
        last = squash is not None and squash.op_type == "Softmax" and _along_the_last(hub, squash)
        if last or (len(shape) == 2 and tuple(shape[1:]) not in given and _is_head(node)):
            found.add(str(value.name))
    return found


def _before_reshapes(hub: Hub, value: ir.Value) -> ir.Value:
    """The value before reshapes that keep its last axis: a Softmax of an opset before 13 comes before one."""
    while (
        (node := value.producer()) is not None and node.op_type == "Reshape" and (given := node.inputs[0]) is not None
    ):
        before, after = hub.shape(given), hub.shape(value)
        if not before or not after or before[-1] != after[-1] or not isinstance(after[-1], int):
            break
        value = given
    return value


def _along_the_last(hub: Hub, softmax: ir.Node) -> bool:
    """Whether a Softmax makes probabilities of its last axis."""
    return softmax.attributes.get_int("axis", -1) in (-1, len(hub.shape(softmax.outputs[0]) or ()) - 1)


def next_tokens(hub: Hub) -> dict[str, str]:
    """The graph outputs that are scores of the next token, each with the input that holds the tokens: a dense layer as wide as
    the table of which that input picks rows."""
    inputs = set(hub.graph.inputs)
    tokens = {
        weight.shape[weight.out_axis]: str(node.inputs[1].name)  # type: ignore[union-attr]
        for node in hub.nodes()
        if node.op_type == "Gather" and node.inputs[1] in inputs and (weight := weight_of(node)) is not None
    }
    found = {}
    for value in hub.graph.outputs:
        node, shape = value.producer(), hub.shape(value)
        if node is not None and shape and len(shape) > 2 and shape[-1] in tokens and _is_head(node):
            found[str(value.name)] = tokens[shape[-1]]  # type: ignore[index]
    return found


def _is_head(node: ir.Node) -> bool:
    """A dense layer with its own weight, its bias and moves after it included."""
    while info_of(node).kind == "movement" or node.op_type == "Add":
        before = [v.producer() for v in node.inputs if v is not None and v.producer() is not None]
        if len(before) != 1 or before[0] is None:
            return False
        node = before[0]
    return node.op_type in _HEADS and weight_of(node) is not None
