"""Find where attention scores are masked: large negative numbers added before a Softmax.

Such a mask has a range of its own. Quantized together with the scores its -10000 leaves them one or two steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import is_op
from fewbit.graph.hub import Hub, constant_tensor
from fewbit.graph.ops import kind_of

LARGE = -100.0
"""exp(-100) is 4e-44: a number this far below the others is there to make a probability zero."""

_READ_AT_MOST = 64 << 20
_DEPTH = 16

_CARRY = frozenset(
    (
        *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Expand", "Tile", "Cast"),
        *("CastLike", "Concat", "Gather", "GatherND", "ScatterND", "Trilu", "Pad", "ConstantOfShape", "Where"),
        *("Add", "Sub", "Mul", "Div", "Neg", "Min", "Max"),
    )
)
_BETWEEN = frozenset(
    ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Cast", "Mul", "Div", "Clip", "Max", "Min")
) | {"Add", "Sub", "Where"}


@dataclass(frozen=True, slots=True)
class MaskedScores:
    """A node that sets some scores of a Softmax so low that they vanish.

    node: an Add or Sub of scores and mask, or a Where that chooses between scores and a low number.
    scores: the operand that carries the scores.
    mask: the operand that carries the low numbers.
    lowest: the lowest number found; -inf counts as such.
    """

    node: ir.Node
    scores: ir.Value
    mask: ir.Value
    lowest: float


def attention_mask_adds(hub: Hub) -> list[MaskedScores]:
    """Adds (and Wheres) of a constant or computed operand with large negative numbers, whose result a Softmax reads."""
    found: dict[ir.Node, MaskedScores] = {}
    for node in hub.nodes():
        if kind_of(node) == "softmax" and node.inputs[0] is not None:
            for masked in _above(hub, node.inputs[0], _DEPTH, set()):
                found.setdefault(masked.node, masked)
    order = {node: i for i, node in enumerate(hub.nodes())}
    return sorted(found.values(), key=lambda masked: order.get(masked.node, 0))


def _above(hub: Hub, value: ir.Value, depth: int, seen: set[ir.Value]) -> list[MaskedScores]:
    """The masks on the way back from a Softmax to what made its scores."""
    node = value.producer()
    if node is None or depth == 0 or value in seen or not is_op(node, *_BETWEEN):
        return []
    seen.add(value)
    operands = [v for v in node.inputs if v is not None]
    if is_op(node, "Where"):
        operands = operands[1:]
    signs = (1.0, -1.0) if is_op(node, "Sub") else (1.0,) * len(operands)
    lows = [_lowest(v, sign, _DEPTH, {}) for v, sign in zip(operands, signs, strict=True)]
    if (is_op(node, "Add", "Where", "Min") and len(operands) == 2) or is_op(node, "Sub"):
        for i in (1, 0):
            if lows[i] <= LARGE and not lows[1 - i] <= LARGE:
                other = _above(hub, operands[1 - i], depth - 1, seen)
                return [MaskedScores(node, operands[1 - i], operands[i], lows[i]), *other]
    found = []
    for operand in operands if is_op(node, "Add", "Where", "Mul", "Div") else operands[:1]:
        if operand.const_value is None:
            found += _above(hub, operand, depth - 1, seen)
    return found


def _lowest(value: ir.Value, sign: float, depth: int, cache: dict[tuple[ir.Value, float], float]) -> float:
    """The lowest of sign * constants that this value is made from by moving, choosing, adding and multiplying.

    inf when nothing is known: activations do not count, and neither do products of two of them.
    """
    key = (value, sign)
    if key in cache:
        return cache[key]
    cache[key] = np.inf  # for what comes round to itself in no valid graph
    tensor = constant_tensor(value)
    if tensor is not None:
        cache[key] = _extreme(tensor, sign)
        return cache[key]
    node = value.producer()
    if node is None or depth == 0 or not is_op(node, *_CARRY):
        return np.inf
    inputs = [v for v in node.inputs if v is not None]
    if is_op(node, "ConstantOfShape"):
        attribute = node.attributes.get("value")
        result = np.inf if attribute is None else _extreme(attribute.as_tensor(), sign)
    elif is_op(node, "Mul", "Div"):
        result = _product(node, inputs, sign)
    elif is_op(node, "Sub"):
        result = min(_lowest(inputs[0], sign, depth - 1, cache), _lowest(inputs[1], -sign, depth - 1, cache))
    elif is_op(node, "Neg"):
        result = _lowest(inputs[0], -sign, depth - 1, cache)
    else:
        operands = {"Where": inputs[1:], "ScatterND": [*inputs[:1], *inputs[2:]]}.get(node.op_type, inputs)
        if not is_op(node, "Add", "Where", "Concat", "Min", "Max", "ScatterND"):
            operands = operands[:1]
        result = min((_lowest(v, sign, depth - 1, cache) for v in operands), default=np.inf)
    cache[key] = result
    return result


def _product(node: ir.Node, inputs: list[ir.Value], sign: float) -> float:
    """(1 - mask) * -10000, and the same with the sign on the other side: a computed mask of 0 and 1 times a number."""
    for index in (1, 0):
        tensor = constant_tensor(inputs[index])
        if tensor is None or (is_op(node, "Div") and index == 0):
            continue
        if is_op(node, "Div"):
            return np.inf
        low = _extreme(tensor, sign)
        return low if _is_mask(inputs[1 - index], _DEPTH) else np.inf
    return np.inf


def _is_mask(value: ir.Value, depth: int) -> bool:
    """Whether a value comes from integers or booleans by arithmetic: zeros and ones, not scores."""
    if value.dtype is not None and not value.dtype.is_floating_point():
        return True
    if constant_tensor(value) is not None:
        return True
    node = value.producer()
    if node is None:
        return True  # a float mask fed by the caller; a product of scores has a producer that computes
    if depth == 0 or not is_op(node, *_CARRY):
        return False
    return all(_is_mask(v, depth - 1) for v in node.inputs if v is not None)


def _extreme(tensor: ir.TensorProtocol, sign: float) -> float:
    if tensor.size == 0 or tensor.nbytes > _READ_AT_MOST or not tensor.dtype.is_floating_point():
        return np.inf
    array = np.asarray(tensor.numpy())
    return float(array.min()) if sign > 0 else -float(array.max())
