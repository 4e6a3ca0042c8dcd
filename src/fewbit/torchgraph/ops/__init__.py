"""The operator tables: one row an operator, one file a group. An operator of another domain has it in front of its name."""

from __future__ import annotations

from fewbit.torchgraph.node import Node, Row
from fewbit.torchgraph.ops import cast, conv, elementwise, gather, matmul, norm, pool, reduction, shape

TABLES: tuple[dict[str, Row], ...] = (
    cast.ROWS,
    elementwise.ROWS,
    reduction.ROWS,
    shape.ROWS,
    gather.ROWS,
    conv.ROWS,
    pool.ROWS,
    matmul.ROWS,
    norm.ROWS,
)

ROWS: dict[str, Row] = {name: row for table in TABLES for name, row in table.items()}


def find_row(node: Node) -> Row | None:
    """The row of a node's operator, or None."""
    return ROWS.get(f"{node.domain}.{node.op}" if node.domain else node.op)
