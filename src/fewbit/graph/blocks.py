"""Blocks: stretches of a graph between places where everything passes through one value."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.reads import values_read

_MOST_LAYERS = 3  # those of an inverted bottleneck; single layers in a row are joined up to so many


@dataclass(frozen=True, slots=True)
class Block:
    """Nodes that follow one another in a graph.

    nodes: their names, in order. layers: those of them whose weights count. inputs: values that they read and others make,
    graph inputs and what does not depend on layers included. outputs: what later nodes read of them, and graph outputs.
    """

    nodes: tuple[str, ...]
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def blocks(hub: Hub, layers: Collection[str], most_layers: int = _MOST_LAYERS) -> list[Block]:
    """The graph as blocks, first to last, each with one layer at least.

    A residual connection, an attention or any other branching stays inside one block: the graph is cut only where a single
    value that depends on layers is alive. Values that depend on none (masks, positions, the inputs themselves) may cross.

    Args:
        layers: names of the nodes whose weights are to be reconstructed.
        most_layers: blocks are joined while together they have no more layers than this.
    """
    nodes = hub.nodes()
    last_read = {name: index for index, node in enumerate(nodes) for name in values_read(node)}
    depends: set[str] = set()
    alive: set[str] = set()
    stretches: list[list[ir.Node]] = [[]]
    for index, node in enumerate(nodes):
        stretches[-1].append(node)
        names = {str(v.name) for v in node.outputs if v.name}
        if str(node.name) in layers or values_read(node) & depends:
            depends |= names
            alive |= names
        alive = {name for name in alive if last_read.get(name, -1) > index}
        if len(alive) == 1 and names & alive:
            stretches.append([])
    return [_block(hub, stretch, layers) for stretch in _joined(stretches, layers, most_layers)]


def _joined(stretches: Iterable[list[ir.Node]], layers: Collection[str], most: int) -> list[list[ir.Node]]:
    """Stretches joined so that each has layers; those without go to the one before, at the start to the one after."""
    joined: list[list[ir.Node]] = []
    for stretch in stretches:
        here = _count(stretch, layers)
        before = _count(joined[-1], layers) if joined else 0
        if joined and (here == 0 or before == 0 or before + here <= most):
            joined[-1] = joined[-1] + stretch
        elif stretch:
            joined.append(list(stretch))
    return [stretch for stretch in joined if _count(stretch, layers)]


def _count(stretch: list[ir.Node], layers: Collection[str]) -> int:
    return sum(str(node.name) in layers for node in stretch)


def _block(hub: Hub, stretch: list[ir.Node], layers: Collection[str]) -> Block:
    inside = set(stretch)
    made = {str(v.name) for node in stretch for v in node.outputs if v.name}
    read = {name for node in stretch for name in values_read(node)}
    later = {name for node in hub.nodes() if node not in inside for name in values_read(node)}
    outputs = {str(v.name) for v in hub.graph.outputs}
    return Block(
        tuple(str(node.name) for node in stretch),
        tuple(str(node.name) for node in stretch if str(node.name) in layers),
        tuple(sorted(read - made)),
        tuple(sorted(made & (later | outputs))),
    )
