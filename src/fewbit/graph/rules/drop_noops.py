"""Nodes that hand on their input unchanged are removed: Identity, Dropout at inference, a Cast to the same type ..."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fewbit.graph.edit import bypass, can_bypass, integer, integers, is_op
from fewbit.graph.hub import Hub, all_graphs, constant_array, shape_of
from fewbit.graph.info import RuleOutcome

NAME = "drop_noops"


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for graph in all_graphs(hub.model):
        for node in list(graph):
            check = _CHECKS.get(node.op_type) if is_op(node, node.op_type) else None
            source = check(node) if check is not None else None
            if source is None:
                continue
            obstacle = can_bypass(node, source)
            if obstacle is None:
                outcomes.append(RuleOutcome(NAME, str(node.name), True, f"a {node.op_type} that changes nothing"))
                bypass(node, source)
            else:
                outcomes.append(RuleOutcome(NAME, str(node.name), False, obstacle))
    return outcomes


def _first(node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _dropout(node: ir.Node) -> ir.Value | None:
    """Without training_mode (or with it false) it does nothing."""
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None:
        return node.inputs[0]
    flag = constant_array(training)
    return node.inputs[0] if flag is not None and not flag.any() else None


def _cast(node: ir.Node) -> ir.Value | None:
    source = node.inputs[0]
    same = source is not None and source.dtype is not None and source.dtype.value == integer(node, "to", 0)
    return source if same else None


def _same_static_shape(node: ir.Node) -> ir.Value | None:
    """Reshape, Expand, Flatten, Tile, Slice, Pad, Resize: as many numbers in as out, in the same shape."""
    source, before, after = node.inputs[0], shape_of(node.inputs[0]), shape_of(node.outputs[0])
    static = before is not None and all(isinstance(size, int) for size in before)
    return source if static and before == after else None


def _slice(node: ir.Node) -> ir.Value | None:
    """A slice of everything; a step of -1 keeps the shape but turns the order around."""
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else None
    if len(node.inputs) > 4 and node.inputs[4] is not None and (steps is None or (steps != 1).any()):
        return None
    return _same_static_shape(node)


def _reshape(node: ir.Node) -> ir.Value | None:
    """To the shape that it has, also when one size is unknown: [0, ...] copies, -1 stands for the rest."""
    source, before = node.inputs[0], shape_of(node.inputs[0])
    asked = node.inputs[1].producer() if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if is_op(asked, "Shape") and asked is not None and asked.inputs[0] is source and not asked.attributes:
        return source
    wanted = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if before is None or wanted is None or wanted.size != len(before):
        return _same_static_shape(node)
    copies_zero = not integer(node, "allowzero", 0)
    unknown = [i for i, size in enumerate(wanted) if not (size == before[i] or (size == 0 and copies_zero))]
    if not unknown:
        return source
    return source if len(unknown) == 1 and wanted[unknown[0]] == -1 else None


def _pad(node: ir.Node) -> ir.Value | None:
    pads = constant_array(node.inputs[1]) if len(node.inputs) > 1 else np.array(integers(node, "pads", [1]))
    return node.inputs[0] if pads is not None and not pads.any() else None


def _transpose(node: ir.Node) -> ir.Value | None:
    perm = integers(node, "perm", [])
    return node.inputs[0] if perm and perm == list(range(len(perm))) else None


def _single(node: ir.Node) -> ir.Value | None:
    """Concat, Sum, Max, Min, Mean of one tensor."""
    return node.inputs[0] if len(node.inputs) == 1 else None


def _neutral(number: float, commutes: bool) -> Callable[[ir.Node], ir.Value | None]:
    """x + 0, x - 0, x * 1, x / 1, x ** 1, when the constant does not widen the shape."""

    def check(node: ir.Node) -> ir.Value | None:
        for index in (1, 0) if commutes else (1,):
            constant, source = node.inputs[index], node.inputs[1 - index]
            if constant is None or source is None or constant.const_value is None or constant.const_value.size != 1:
                continue
            array, shape = constant_array(constant), shape_of(source)
            if array is None or shape is None or array.ndim > len(shape) or source.dtype != node.outputs[0].dtype:
                continue
            if float(array.reshape(-1)[0]) == number:
                return source
        return None

    return check


def _clip(node: ir.Node) -> ir.Value | None:
    unbounded = not any(node.inputs[1:]) and "min" not in node.attributes and "max" not in node.attributes
    return node.inputs[0] if unbounded else None


_CHECKS: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Identity": _first,
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _same_static_shape,
    "Expand": _same_static_shape,
    "Tile": _same_static_shape,
    "Slice": _slice,
    "Pad": _pad,
    "Transpose": _transpose,
    **dict.fromkeys(("Concat", "Sum", "Max", "Min", "Mean"), _single),
    "Add": _neutral(0.0, True),
    "Sub": _neutral(0.0, False),
    "Mul": _neutral(1.0, True),
    "Div": _neutral(1.0, False),
    "Pow": _neutral(1.0, False),
    "Clip": _clip,
}
