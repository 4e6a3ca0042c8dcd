"""For every operator that comes in, small files that use it."""

from __future__ import annotations

from tests.formats.litert.cases import elementwise, layers, moves, products, reductions, shapes
from tests.formats.litert.cases.table import CASES, Case

__all__ = ["CASES", "Case", "elementwise", "layers", "moves", "products", "reductions", "shapes"]
