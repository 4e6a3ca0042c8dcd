"""A graph in the parts of which a mixture by speed is made: what each kernel does as a whole, and the values between."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.plan import Plan
from fewbit.plan.wiring import data_inputs, is_float


@dataclass(slots=True)
class Part:
    """Nodes that get a format together, in the order of the graph.

    heavy: the nodes among them that have weights; none in a part that follows its inputs. sources: indices of the parts that
    it reads, None for an input of the model.
    """

    nodes: list[str]
    heavy: list[str]
    sources: set[int | None] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Between:
    """A value that goes from one part to others, or out of the model."""

    value: str
    source: int | None
    readers: tuple[int, ...]
    ends: bool


def parts_of(hub: Hub, plan: Plan, own_kernel: Collection[str]) -> tuple[list[Part], list[Between]]:
    """The parts of a graph, and the values between them.

    A node with a weight begins a part; what its integer kernel absorbs belongs to it, and so does what the runtime
    fuses into its float kernel, which then is found under the name of the last of them. Other nodes are a part of their
    own as long as they read the same: a hard-swish that is written as four nodes is one.

    Args:
        plan: in integers. own_kernel: names of nodes that have a float kernel of their own.
    """
    parts: list[Part] = []
    place: dict[str, int] = {}
    open_ended: set[int] = set()  # parts whose last node has not met the kernel that does it
    for node in hub.nodes():
        name = str(node.name)
        before = [_maker(v) for v in data_inputs(node) if is_float(v)]
        sources = {None if m is None else place.get(m) for m in before}
        known = {s for s in sources if s is not None}
        if weight_of(node) is not None or not known:
            place[name] = len(parts)
            parts.append(Part([name], [name] if weight_of(node) is not None else [], sources))
            if weight_of(node) is not None and name not in own_kernel:
                open_ended.add(place[name])
            continue
        last = max(known)
        joins = parts[last].heavy and (plan.nodes[name].form == "absorbed" or last in open_ended)
        grows = not parts[last].heavy and sources <= {last, *parts[last].sources}
        if (joins and len(known) == 1) or grows:
            parts[last].nodes.append(name)
            place[name] = last
            if name in own_kernel:
                open_ended.discard(last)
            continue
        place[name] = len(parts)
        parts.append(Part([name], [], sources))
    return parts, _between(hub, place)


def _between(hub: Hub, place: Mapping[str, int]) -> list[Between]:
    found = []
    for value in [*hub.graph.inputs, *(o for node in hub.nodes() for o in node.outputs)]:
        if not is_float(value):
            continue
        maker = value.producer()
        source = None if maker is None else place[str(maker.name)]
        readers = {
            place[str(reader.name)]
            for reader in value.consumers()
            if str(reader.name) in place and value in data_inputs(reader)
        } - {source}
        if readers or (value.is_graph_output() and source is not None):
            chosen = tuple(sorted(r for r in readers if r is not None))
            found.append(Between(str(value.name), source, chosen, value.is_graph_output()))
    return found


def names_of(hub: Hub) -> dict[str, str]:
    """Name of a node or of a value that it makes → the node."""
    found = {str(output.name): str(node.name) for node in hub.nodes() for output in node.outputs}
    return found | {str(node.name): str(node.name) for node in hub.nodes()}


def spread(kernels: Sequence[tuple[Any, float]], names: Mapping[str, str]) -> dict[str, float]:
    """Node → milliseconds of the kernels that are called after it; those of conversions, whose names nothing has, are left
    out."""
    times: dict[str, float] = {}
    for kernel, milliseconds in kernels:
        node = next((names[name] for name in kernel.names if name in names), None)
        if node is not None:
            times[node] = times.get(node, 0.0) + milliseconds
    return times


def _maker(value: ir.Value) -> str | None:
    node = value.producer()
    return None if node is None else str(node.name)
