"""Weights that are not in the main graph: where they are instead, and what to do if there are no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.ops import category_of, kind_of, weight_of

_CLASSICAL = ("TreeEnsemble", "Linear", "SVM")
"""How the operators of `ai.onnx.ml` begin that hold what a classical model has learned, in attributes."""


def why_weightless(hub: Hub) -> str | None:
    """Why there is nothing in the main graph to quantize, or None: weights inside of If, Loop or Scan, or a model that is
    no neural network."""
    if any(_is_weighty(node) for node in hub.nodes()):
        return None
    for node in hub.nodes():
        if any(map(_is_heavy, _inside(node))):
            return (
                f"its weights are inside of the {node.op_type} node {node.name!r}, and those of the main graph alone can "
                "be quantized; export the model without that node, with the one branch that is used"
            )
        if node.domain == "ai.onnx.ml" and node.op_type.startswith(_CLASSICAL):
            return (
                f"node {node.name!r} is a {node.op_type}, no layer of a neural network, and there is no other with "
                "weights; leave it in float"
            )
    return None


def heavy_inside(hub: Hub) -> Counter[str]:
    """The operators inside of loops and conditions that do the work there, by name: no plan has them."""
    return Counter(inner.op_type for node in hub.nodes() for inner in _inside(node) if _is_heavy(inner))


def _is_heavy(node: ir.Node) -> bool:
    return category_of(node) == "heavy" and kind_of(node) != "embedding"


def _is_weighty(node: ir.Node) -> bool:
    weight = weight_of(node)
    return weight is not None and weight.value.dtype is not None and weight.value.dtype.is_floating_point()


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of a node's subgraphs, and of those of these."""
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        graphs += attribute.value if attribute.type == ir.AttributeType.GRAPHS else []
        for graph in graphs:
            for inner in graph:
                yield inner
                yield from _inside(inner)
