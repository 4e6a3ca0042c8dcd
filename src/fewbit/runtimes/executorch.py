"""ExecuTorch: sessions over its runtime, with XNNPACK and the portable kernels."""

from __future__ import annotations

NAME = "executorch"
MAGIC = b"ET12"
"""Of a file of ExecuTorch, at offset 4."""

PURPOSE = "ExecuTorch"
ENDS = "fewbit_ends"
"""The method of a file that gives the names of its inputs and outputs, which the format has no place for: JSON."""
