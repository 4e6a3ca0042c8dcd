"""Denormal weights become zero.

Numbers below the smallest normal float32 (1.2e-38) change no output, and a CPU takes up to a hundred times longer for a
multiplication with one: a float run of such a model is slow for no reason.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.hub import Hub, all_graphs
from fewbit.graph.info import RuleOutcome

NAME = "flush_denormals"
_BLOCK = 1 << 20
_READ_AT_MOST = 64 << 20
"""Bytes of an external tensor that are read for this; larger ones stay in their file."""


def apply(hub: Hub) -> list[RuleOutcome]:
    outcomes = []
    for graph in all_graphs(hub.model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
                continue
            if isinstance(tensor, ir.ExternalTensor) and tensor.nbytes > _READ_AT_MOST:
                outcomes.append(
                    RuleOutcome(
                        NAME, str(value.name), False, f"its {tensor.nbytes} bytes were left in their file unread"
                    )
                )
                continue
            array = tensor.numpy()
            count = _count(array.reshape(-1))
            if count:
                clean = np.where(np.abs(array) < np.finfo(np.float32).tiny, np.float32(0), array)
                value.const_value = ir.Tensor(clean, name=value.name)
                outcomes.append(
                    RuleOutcome(
                        NAME,
                        str(value.name),
                        True,
                        f"{count} of {array.size} denormal numbers, which slow float runs, are 0 now",
                    )
                )
    return outcomes


def _count(flat: np.ndarray) -> int:
    """How many numbers are denormal: exponent bits 0 and fraction not 0."""
    bits = np.ascontiguousarray(flat).view(np.uint32)
    count = 0
    for start in range(0, bits.size, _BLOCK):
        # Shifting out the sign leaves 2..2**24-1 for denormals; subtracting 1 sends zero to the top.
        count += int(np.count_nonzero((bits[start : start + _BLOCK] << 1) - np.uint32(1) < np.uint32(0x00FFFFFF)))
    return count
