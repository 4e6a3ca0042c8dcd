"""The operator tables: one row an operator, one file a group. An operator of another domain has it in front of its name.

Operators that ONNX defines by others need no row (`fewbit.torchgraph.functions`). Those that draw random numbers have none
on purpose: what they compute cannot be compared with a runtime's.
"""

from __future__ import annotations

from collections.abc import Mapping

from fewbit.torchgraph.node import Node, Row
from fewbit.torchgraph.ops import (
    attention,
    cast,
    control,
    conv,
    elementwise,
    gather,
    matmul,
    norm,
    pool,
    quantize,
    reduction,
    resize,
    rnn,
    sequence,
    shape,
    signal,
    vision,
)

TABLES: tuple[dict[str, Row], ...] = (
    elementwise.ROWS,
    cast.ROWS,
    reduction.ROWS,
    shape.ROWS,
    gather.ROWS,
    matmul.ROWS,
    conv.ROWS,
    pool.ROWS,
    norm.ROWS,
    rnn.ROWS,
    resize.ROWS,
    vision.ROWS,
    signal.ROWS,
    quantize.ROWS,
    attention.ROWS,
    control.ROWS,
    sequence.ROWS,
)

ROWS: dict[str, Row] = {name: row for table in TABLES for name, row in table.items()}


def find_row(node: Node, more: Mapping[str, Row]) -> Row | None:
    """The row of a node's operator, or None. `more` is looked up first."""
    name = f"{node.domain}.{node.op}" if node.domain else node.op
    return more.get(name) or ROWS.get(name)
