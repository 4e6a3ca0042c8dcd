"""A graph as a list of steps: what runs, in which order, and what each step reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fewbit.errors import ModelError
from fewbit.torchgraph.node import Node, Row


@dataclass(frozen=True, eq=False)
class Step:
    """One node, or a product and the addition of its bias in one.

    inputs, outputs: names of values, "" for a missing one.
    readers: for each input the name of the node of the graph that reads it.
    bodies: the node's subgraphs by the names of their attributes.
    captures: names of values of the graphs around that the subgraphs read.
    """

    node: Node
    row: Row
    inputs: tuple[str, ...]
    readers: tuple[str, ...]
    outputs: tuple[str, ...]
    bodies: Mapping[str, Program] = field(default_factory=dict)
    captures: tuple[str, ...] = ()

    @property
    def reads(self) -> Iterator[str]:
        yield from (name for name in self.inputs if name)
        yield from self.captures


@dataclass(frozen=True, eq=False)
class Program:
    """A graph or subgraph.

    steps: producers before readers.
    joined: for the output of a bias's addition, the step that makes it together with the product, and the name of the
        product that is then not made.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    joined: Mapping[str, tuple[Step, str]] = field(default_factory=dict)

    def values(self) -> Iterator[str]:
        """Names of what is fed and made here, subgraphs included."""
        yield from self.inputs
        for step in self.steps:
            yield from (name for name in step.outputs if name)
            for body in step.bodies.values():
                yield from body.values()

    def reads(self) -> Iterator[tuple[str, str]]:
        """(value, node that reads it), subgraphs included."""
        for step in self.steps:
            yield from ((name, reader) for name, reader in zip(step.inputs, step.readers, strict=True) if name)
            for body in step.bodies.values():
                yield from body.reads()


@dataclass(frozen=True)
class Schedule:
    """The steps that some outputs need, in order, and what nobody reads any more after each of them."""

    steps: tuple[Step, ...]
    released: tuple[tuple[str, ...], ...]


def schedule(
    program: Program,
    given: Collection[str],
    wanted: Sequence[str],
    constants: Collection[str],
    apart: Collection[str] = (),
) -> Schedule:
    """What has to run to make `wanted` from `given`.

    Args:
        constants: names that are always known.
        apart: products that have to be made even where a bias follows, because somebody looks at them.

    Raises:
        ModelError: a value that is needed is neither given nor made from what is given.
    """
    producers = {name: step for step in program.steps for name in step.outputs if name}
    producers |= {
        name: step for name, (step, inner) in program.joined.items() if inner not in {*given, *wanted, *apart}
    }
    needed: set[Step] = set()
    missing: dict[str, None] = {}
    waiting = list(wanted)
    seen = set(given) | set(constants)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        step = producers.get(name)
        if step is None:
            missing[name] = None
            continue
        if step not in needed:
            needed.add(step)
            waiting.extend(step.reads)
    if missing:
        known = ", ".join(repr(name) for name in given) or "nothing"
        raise ModelError(
            f"to make {', '.join(map(repr, wanted))} the values {', '.join(map(repr, sorted(missing)))} are needed, and only "
            f"{known} was given; feed them too"
        )
    place = {name: index for index, step in enumerate(program.steps) for name in step.outputs if name}
    steps = sorted(needed, key=lambda step: place[next(name for name in step.outputs if name)])
    return Schedule(tuple(steps), _released(steps, wanted))


def _released(steps: Sequence[Step], kept: Collection[str]) -> tuple[tuple[str, ...], ...]:
    last: dict[str, int] = {}
    for index, step in enumerate(steps):
        for name in (*step.outputs, *step.reads):
            if name and name not in kept:
                last[name] = index
    released: list[list[str]] = [[] for _ in steps]
    for name, index in last.items():
        released[index].append(name)
    return tuple(tuple(names) for names in released)
