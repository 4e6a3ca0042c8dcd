"""Prepared modules as files: plain data and tensors, which load without running code."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from fewbit.errors import ModelError
from fewbit.formats.torch.failures import first_line
from fewbit.formats.torch.safety import refers_to
from fewbit.graph.atomic import atomic_files
from fewbit.plan.io import from_dict, to_dict
from fewbit.plan.plan import Plan
from fewbit.torch.interface import Interface, Tree
from fewbit.torch.prepared import PreparedModule, content, prepared_part, rebuild

SCHEMA_VERSION = 1
_KEY = "fewbit.torch"


def save(module: nn.Module, path: str | Path) -> None:
    """Write a prepared module, or the one that a module holds, whole or not at all.

    Raises:
        ModelError: there is no prepared module, or its arguments are no plain data.
        OutputError: the file cannot be written.
    """
    parts = content(prepared_part(module))
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    document = {
        **parts,
        _KEY: SCHEMA_VERSION,
        "model": torch.from_numpy(np.frombuffer(parts["model"], np.uint8).copy()),
        "plan": json.dumps(to_dict(parts["plan"], arrays)),
        "arrays": _tensors(arrays),
        "interface": _described(parts["interface"]),
        "sample": _tensors(parts["sample"]),
    }
    with atomic_files(Path(path)) as (file,):
        torch.save(document, file)


def load(path: str | Path) -> PreparedModule:
    """The module that `save` wrote.

    Raises:
        ModelError: the file cannot be read, is something else, or is of another version.
    """
    try:
        parts = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        found = refers_to(error)
        why = first_line(error) if found is None else f"unpickling it would run Python code, it refers to {found}"
        raise ModelError(f"{path} is no prepared module: {why}; give what fewbit.torch.save wrote") from error
    if not isinstance(parts, dict) or parts.get(_KEY) != SCHEMA_VERSION:
        found = parts.get(_KEY, "none") if isinstance(parts, dict) else "none"
        raise ModelError(
            f"{path} is no prepared module of version {SCHEMA_VERSION} (found: {found}); write it with fewbit.torch.save"
        )
    arrays = {name: tensor.numpy() for name, tensor in parts["arrays"].items()}
    plan: Plan = from_dict(json.loads(parts["plan"]), arrays)
    return rebuild(
        {
            **parts,
            "model": parts["model"].numpy().tobytes(),
            "plan": plan,
            "interface": _interface(parts["interface"]),
            "sample": {name: tensor.numpy() for name, tensor in parts["sample"].items()},
        }
    )


def _tensors(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _described(interface: Interface) -> str:
    try:
        return json.dumps(
            {
                "names": interface.names,
                **{
                    key: {"spec": tree.treespec_dumps(nest.spec), "constants": nest.constants}
                    for key, nest in (("arguments", interface.arguments), ("returned", interface.returned))
                },
            }
        )
    except (TypeError, NotImplementedError) as error:
        raise ModelError(
            f"what forward takes or returns cannot be written as plain data ({error}); keep the state_dict and prepare again"
        ) from error


def _interface(text: str) -> Interface:
    document = json.loads(text)
    nests = [
        Tree(_numbered(tree.treespec_loads(nest["spec"])), tuple((int(i), value) for i, value in nest["constants"]))
        for nest in (document["arguments"], document["returned"])
    ]
    return Interface(tuple(document["names"]), *nests)


def _numbered(spec: tree.TreeSpec) -> Any:
    return tree.tree_unflatten(range(spec.num_leaves), spec)
