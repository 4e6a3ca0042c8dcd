"""What a runtime executes of a file, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.runtimes.arena import Arena


@dataclass(frozen=True, slots=True)
class Kernels:
    """Counts of the kernels that execute, in groups, under the runtime's names; float kernels of heavy ops under ONNX's."""

    integer: Mapping[str, int]
    float_heavy: Mapping[str, int]
    conversions: Mapping[str, int]
    other: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "integer": dict(self.integer),
            "float_heavy": dict(self.float_heavy),
            "conversions": dict(self.conversions),
            "other": dict(self.other),
        }


@dataclass(frozen=True, slots=True)
class ExecutedOp:
    """Operators of one name that run in one place on numbers of one kind.

    where: the library whose kernels they are. dtypes: of the first activation and, where the work lies in products, of the
    constant beside it: `int8 · int8`, `float32 · int8` for weights that a kernel of float activations reads; empty where the
    runtime does not say.
    """

    op: str
    where: str
    dtypes: str
    count: int

    def to_dict(self) -> dict[str, Any]:
        return {"op": self.op, "where": self.where, "dtypes": self.dtypes, "count": self.count}


@dataclass(frozen=True, slots=True)
class Execution:
    """Operators of the main graph in the order in which they first occur.

    partitions: parts that XNNPACK runs as a whole, between which activations go back to the runtime. arena: the memory of
    activations on a microcontroller. None: not of this runtime.
    """

    ops: Sequence[ExecutedOp]
    kernels: Kernels
    partitions: int | None = None
    arena: Arena | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "ops": [op.to_dict() for op in self.ops],
            "kernels": self.kernels.to_dict(),
            "partitions": self.partitions,
            "arena_bytes": None if self.arena is None else self.arena.bytes,
            "live_bytes": None if self.arena is None else self.arena.live,
        }
