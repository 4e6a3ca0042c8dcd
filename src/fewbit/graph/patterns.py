"""Recognise activation functions and normalizations that exporters spell out in several nodes.

Activations are recognised by what they compute, not by how they are written: the nodes between a value and a later one
are evaluated at a few points and compared with the known functions, so every algebraic form is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.edit import integer, integers, is_op, real
from fewbit.graph.hub import constant_array, shape_of

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Several nodes that are one function.

    kind: `silu`, `hard_swish`, `hard_sigmoid`, `gelu` (exact), `gelu_tanh`, `quick_gelu`, `mish`, `layer_norm`,
        `rms_norm`.
    input: the value it is a function of.
    output: the value it makes.
    nodes: in topological order; nothing else reads what they make, except the output.
    """

    kind: str
    input: ir.Value
    output: ir.Value
    nodes: tuple[ir.Node, ...]


_MOST_NODES = 12
_POINTS: Numbers = np.concatenate([np.linspace(-7.9, 7.9, 32), [0.0, -3.0, 3.0, 1e-3, -1e-3]])
_TOLERANCE = 1e-5


def _sigmoid(x: Numbers) -> Numbers:
    return 1 / (1 + np.exp(-x))


def _erf(x: Numbers) -> Numbers:
    return np.array([math.erf(float(v)) for v in np.ravel(x)]).reshape(np.shape(x))


# What each kind computes, by its paper's formula.
_KNOWN: dict[str, Callable[[Numbers], Numbers]] = {
    "silu": lambda x: x * _sigmoid(x),  # Elfwing et al. 2017
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,  # Howard et al. 2019, section 5.2
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,  # the same
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),  # Hendrycks and Gimpel 2016, section 2
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),  # the same
    "quick_gelu": lambda x: x * _sigmoid(1.702 * x),  # the same
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),  # Misra 2019
}
_VALUES = {kind: function(_POINTS) for kind, function in _KNOWN.items()}


def _clip(node: ir.Node, inputs: list[Numbers]) -> Numbers:
    low = inputs[1] if len(inputs) > 1 else real(node, "min", -math.inf)
    high = inputs[2] if len(inputs) > 2 else real(node, "max", math.inf)
    return np.minimum(np.maximum(inputs[0], low), high)


_EVALUATE: dict[str, Callable[[ir.Node, list[Numbers]], Numbers]] = {
    "Add": lambda n, v: v[0] + v[1],
    "Sub": lambda n, v: v[0] - v[1],
    "Mul": lambda n, v: v[0] * v[1],
    "Div": lambda n, v: v[0] / v[1],
    "Pow": lambda n, v: np.power(v[0], v[1]),
    "Neg": lambda n, v: -v[0],
    "Exp": lambda n, v: np.exp(v[0]),
    "Log": lambda n, v: np.log(v[0]),
    "Reciprocal": lambda n, v: 1 / v[0],
    "Sigmoid": lambda n, v: _sigmoid(v[0]),
    "Tanh": lambda n, v: np.tanh(v[0]),
    "Erf": lambda n, v: _erf(v[0]),
    "Relu": lambda n, v: np.maximum(v[0], 0),
    "Clip": _clip,
    "Min": lambda n, v: np.minimum.reduce(np.broadcast_arrays(*v)),
    "Max": lambda n, v: np.maximum.reduce(np.broadcast_arrays(*v)),
    "Softplus": lambda n, v: np.log1p(np.exp(v[0])),
    "HardSigmoid": lambda n, v: np.clip(real(n, "alpha", 0.2) * v[0] + real(n, "beta", 0.5), 0, 1),
    "HardSwish": lambda n, v: _KNOWN["hard_swish"](v[0]),
    "Gelu": lambda n, v: _KNOWN[
        "gelu_tanh" if "approximate" in n.attributes and n.attributes["approximate"].as_string() == "tanh" else "gelu"
    ](v[0]),
    "Swish": lambda n, v: v[0] * _sigmoid(real(n, "alpha", 1.0) * v[0]),
    "Mish": lambda n, v: _KNOWN["mish"](v[0]),
}
_ENDS = frozenset(["Mul", "Div", "Clip", "HardSigmoid", "HardSwish", "Gelu", "Swish", "Mish", "Min"])
_BENDING = frozenset(_EVALUATE) - frozenset(["Add", "Sub", "Mul", "Div", "Neg"])


def activation_pattern(node: ir.Node) -> Pattern | None:
    """The activation function that this node is the last step of, or None."""
    if not is_op(node, *_ENDS):
        return None
    region: list[ir.Node] = []
    frontier: set[ir.Value] = {node.outputs[0]}
    order = _order(node)
    while len(region) < _MOST_NODES:
        value = max(frontier, key=order)
        step = value.producer()
        if step is None or step.graph is not node.graph or not is_op(step, *_EVALUATE):
            return None
        if (region and not all(use.node in region for use in value.uses())) or (region and value.is_graph_output()):
            return None  # its result is needed elsewhere, so it could not be fused
        operands = [v for v in step.inputs if v is not None and not _is_scalar(v)]
        if any(constant_array(v) is not None for v in operands):
            return None
        region.append(step)
        frontier.discard(value)
        frontier.update(operands)
        if len(frontier) == 1 and any(n.op_type in _BENDING for n in region):
            source = next(iter(frontier))
            kind = _identify(region, source, node)
            if kind is not None:
                return Pattern(kind, source, node.outputs[0], tuple(reversed(region)))
        if not frontier:
            return None
    return None


def _order(last: ir.Node) -> Callable[[ir.Value], int]:
    """How late a value is made: the longest way from it to nowhere, counted back at most as far as a pattern goes."""
    depth: dict[ir.Value, int] = {}

    def visit(value: ir.Value, left: int) -> int:
        if value in depth:
            return depth[value]
        step = value.producer()
        if step is None or left == 0 or not is_op(step, *_EVALUATE):
            return 0
        depth[value] = 1 + max((visit(v, left - 1) for v in step.inputs if v is not None), default=0)
        return depth[value]

    return lambda value: visit(value, 2 * _MOST_NODES)


def _is_scalar(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size == 1


def _identify(region: list[ir.Node], source: ir.Value, last: ir.Node) -> str | None:
    numbers: dict[ir.Value, Numbers] = {source: _POINTS}
    with np.errstate(all="ignore"):
        for node in reversed(region):
            inputs: list[Numbers] = []
            for value in node.inputs:
                if value is None:
                    inputs.append(np.array(math.inf if len(inputs) == 2 else -math.inf))  # an absent bound of Clip
                elif value in numbers:
                    inputs.append(numbers[value])
                else:
                    array = constant_array(value)
                    if array is None:
                        return None
                    inputs.append(array.astype(np.float64).reshape(()))
            numbers[node.outputs[0]] = _EVALUATE[node.op_type](node, inputs)
    result = numbers[last.outputs[0]]
    for kind, expected in _VALUES.items():
        if result.shape == expected.shape and np.allclose(result, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return kind
    return None


def normalization_pattern(sqrt: ir.Node) -> Pattern | None:
    """The LayerNorm or RMSNorm over the last axis that this Sqrt is the middle of, or None.

    n = d / sqrt(mean(d * d) + epsilon), then perhaps * weight and + bias; d = x - mean(x) for LayerNorm (Ba et al.
    2016, equation 3) and d = x for RMSNorm (Zhang and Sennrich 2019, equation 4).
    """
    if not is_op(sqrt, "Sqrt"):
        return None
    add = _made_by(sqrt.inputs[0], "Add")
    mean = (
        next((m for v in add.inputs if (m := _made_by(v, "ReduceMean")) is not None), None) if add is not None else None
    )
    if (
        add is None
        or mean is None
        or not any(v is not None and _is_scalar(v) for v in add.inputs)
        or not _last_axis(mean)
    ):
        return None
    square = _made_by(mean.inputs[0], "Mul", "Pow")
    if square is None or not _is_square(square) or square.inputs[0] is None:
        return None
    source = square.inputs[0]
    nodes = [square, mean, add, sqrt]
    kind = "rms_norm"
    sub = _made_by(source, "Sub")
    center = _made_by(sub.inputs[1], "ReduceMean") if sub is not None else None
    if sub is not None and center is not None and center.inputs[0] is sub.inputs[0] and _last_axis(center):
        kind = "layer_norm"
        nodes = [center, sub, *nodes]
    end = _divided(sqrt, source)
    if end is None:
        return None
    nodes += end
    last = nodes[-1]
    for op_type in ("Mul", "Add"):
        follower = _only_reader(last.outputs[0])
        if (
            follower is not None
            and is_op(follower, op_type)
            and any(v is not None and v.const_value is not None for v in follower.inputs)
        ):
            nodes.append(follower)
            last = follower
    x = nodes[0].inputs[0]
    inner = {v for n in nodes for v in n.outputs} - {last.outputs[0]}
    if (
        x is None
        or any(use.node not in nodes for v in inner for use in v.uses())
        or any(v.is_graph_output() for v in inner)
    ):
        return None
    return Pattern(kind, x, last.outputs[0], tuple(nodes))


def _divided(sqrt: ir.Node, source: ir.Value) -> list[ir.Node] | None:
    """The nodes that divide `source` by the root: Div, or Reciprocal (or 1 / root) and Mul."""
    reader = _only_reader(sqrt.outputs[0])
    if reader is None:
        return None
    if is_op(reader, "Div") and reader.inputs[0] is source:
        return [reader]
    inverse = is_op(reader, "Reciprocal") or (is_op(reader, "Div") and _equals(reader.inputs[0], 1.0))
    product = _only_reader(reader.outputs[0]) if inverse else None
    if product is not None and is_op(product, "Mul") and source in product.inputs:
        return [reader, product]
    return None


def _made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *op_types) else None


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    return _equals(node.inputs[1], 2.0)


def _equals(value: ir.Value | None, number: float) -> bool:
    array = constant_array(value) if value is not None and _is_scalar(value) else None
    return array is not None and float(array.reshape(-1)[0]) == number


def _last_axis(node: ir.Node) -> bool:
    """Whether a ReduceMean is over the last axis alone and keeps it."""
    axes = (
        constant_array(node.inputs[1])
        if len(node.inputs) > 1 and node.inputs[1] is not None
        else np.array(integers(node, "axes", []))
    )
    shape = shape_of(node.inputs[0])
    if axes is None or axes.size != 1 or not integer(node, "keepdims", 1):
        return False
    axis = int(axes.reshape(-1)[0])
    return axis == -1 or (shape is not None and axis == len(shape) - 1)
