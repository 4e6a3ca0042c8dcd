"""What a row of the op table is."""

from __future__ import annotations

from collections.abc import Callable

from fewbit.formats.litert.write.emit import Emitter
from fewbit.formats.litert.write.graph import Op

Row = Callable[[Emitter, Op], None]
"""Writes one operator: reads its inputs from the emitter in some layout, and makes its outputs there."""
