"""The operator table: one row an operator of ONNX, one file a family."""

from __future__ import annotations

from fewbit.formats.litert.write.ops import (
    activation,
    conv,
    elementwise,
    linear,
    norm,
    pool,
    quantize,
    reduction,
    resize,
    shape,
    slicing,
)
from fewbit.formats.litert.write.ops.row import Row

TABLES: tuple[dict[str, Row], ...] = (
    conv.ROWS,
    pool.ROWS,
    linear.ROWS,
    elementwise.ROWS,
    activation.ROWS,
    norm.ROWS,
    reduction.ROWS,
    shape.ROWS,
    slicing.ROWS,
    resize.ROWS,
    quantize.ROWS,
)

ROWS: dict[str, Row] = {name: row for table in TABLES for name, row in table.items()}
