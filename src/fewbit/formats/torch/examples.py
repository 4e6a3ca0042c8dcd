"""Example inputs: what the exporter traces the module with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fewbit.errors import DataError


def signature_of(model: Any) -> inspect.Signature:
    """The arguments of a module's forward, or of a TorchScript module's or function's."""
    import torch

    if isinstance(model, torch.jit.ScriptFunction):
        arguments = model.schema.arguments  # type: ignore[attr-defined]
    elif isinstance(model, torch.jit.ScriptModule):
        arguments = model.forward.schema.arguments[1:]  # type: ignore[attr-defined]  # without self
    else:
        return inspect.signature(model.forward)
    return inspect.Signature([_parameter(argument) for argument in arguments])


def _parameter(argument: Any) -> inspect.Parameter:
    default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
    return inspect.Parameter(argument.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def bind(signature: inspect.Signature, example: Any, dtype: Any) -> inspect.BoundArguments:
    """The example as arguments of forward, with tensors on the CPU.

    Args:
        example: a tensor or array, a sequence of positional arguments, or a mapping of argument names.
        dtype: of the module's parameters. Arrays of floats become it, as samples do when a model reads them, and so do
            tensors of fewer bits, whose module was widened.

    Raises:
        DataError: no example, or one that is not what forward takes.
    """
    import torch
    from torch.utils import _pytree as tree

    takes = f"forward takes {_shown(signature)}"
    if example is None:
        raise DataError(
            f"a PyTorch model needs example inputs to be exported: give example_inputs=, or for the command samples with "
            f"--data or shapes with --input-shape name=1x3x224x224; {takes}"
        )

    def tensor(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray | np.generic):
            made = torch.from_numpy(np.array(leaf))
            return made.to(dtype) if dtype is not None and made.is_floating_point() else made
        if not isinstance(leaf, torch.Tensor):
            return leaf
        leaf = leaf.detach().cpu()
        narrow = dtype is not None and leaf.is_floating_point() and leaf.dtype.itemsize < dtype.itemsize
        return leaf.to(dtype) if narrow else leaf

    named = isinstance(example, Mapping)
    positional = example if isinstance(example, tuple | list) else (example,)
    try:
        bound = signature.bind(**example) if named else signature.bind(*positional)
    except TypeError as error:
        given = ", ".join(map(str, example)) if named else f"{len(positional)} positional"
        raise DataError(f"the example inputs ({given}) do not fit the model, {error}; {takes}") from error
    bound.arguments = tree.tree_map(tensor, dict(bound.arguments))
    if not any(isinstance(leaf, torch.Tensor) for leaf in tree.tree_leaves(bound.arguments)):
        raise DataError(f"the example inputs hold no tensor, so that the model would have no input; {takes}")
    return bound


def _shown(signature: inspect.Signature) -> str:
    """A signature without the quotes of annotations that are strings and the modules of the types."""
    return str(signature).replace("'", "").replace("torch.", "").replace("typing.", "")
