"""The state in which a module is exported, without changing the user's object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any

from fewbit.errors import ModelError


@contextmanager
def evaluated(module: Any) -> Iterator[None]:
    """The module in evaluation mode; afterwards each of its parts is in the mode in which it was."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False  # eval() may be overridden, with effects that could not be undone
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def exportable(module: Any) -> tuple[Any, list[str]]:
    """The module, or a copy of it on the CPU with floats of at least 32 bits, and notes about what was changed.

    Raises:
        ModelError: it has parameters without numbers.
    """
    import torch

    tensors = list(chain(module.named_parameters(), module.named_buffers()))
    for name, tensor in tensors:
        if tensor.is_meta:
            raise ModelError(f"{name!r} is on the device meta, where tensors have no numbers: load the weights first")
    narrow = sorted({str(t.dtype) for _, t in tensors if t.is_floating_point() and t.dtype.itemsize < 4})
    elsewhere = sorted({str(t.device) for _, t in tensors if t.device.type != "cpu"})
    if not narrow and not elsewhere:
        return module, []
    copy, notes = deepcopy(module).to("cpu"), []
    if elsewhere:
        notes.append(f"a copy of the module was moved from {', '.join(elsewhere)} to the CPU")
    if narrow:
        copy = copy.to(torch.float32)
        notes.append(f"parameters in {', '.join(narrow)} were widened to float32, which changes none of them")
    return copy, notes


def float_dtype(module: Any) -> Any:
    """The dtype of the first floating parameter, or None."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
