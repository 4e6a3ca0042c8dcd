"""PyTorch's files, loaded into objects: only tensors and graphs, no code, unless the user allows it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fewbit.callables import call_user_code, load_callable
from fewbit.errors import ModelError, RecipeError
from fewbit.formats.torch.failures import first_line
from fewbit.formats.torch.kinds import Kind, kind_of
from fewbit.formats.torch.safety import check_archive, check_program, check_script, unpickle

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which keys training scripts put the weights into a checkpoint."""

_PARALLEL = "module."  # what DataParallel puts before every name
_SHOWN = 3


def load_file(path: Path, factory: str | Callable[[], Any] | None, allow_pickle: bool) -> tuple[Any, list[str]]:
    """The module, TorchScript module or exported program in a file, and notes.

    Raises:
        ModelError: the file is damaged, would run code, or its weights do not fit the factory's module.
        RecipeError: a factory is missing, or given for a file that has a graph.
    """
    kind = kind_of(path)
    if kind is None:
        raise ModelError(f"{path} is no file of PyTorch")
    if zipfile.is_zipfile(path):
        check_archive(path)
    if kind in (Kind.PROGRAM, Kind.SCRIPT):
        if factory is not None:
            raise RecipeError(f"{path} is {kind.value}, which has its graph: give no factory (--factory)")
        return (_program if kind is Kind.PROGRAM else _script)(path, allow_pickle), []
    content = _safetensors(path) if kind is Kind.SAFETENSORS else unpickle(path, str(path), allow_pickle=allow_pickle)
    if not isinstance(content, Mapping):
        return content, []
    return _module(content, path, factory)


def _program(path: Path, allow_pickle: bool) -> Any:
    import torch

    if not allow_pickle:
        check_program(path)
    try:
        with open(path, "rb") as file:
            program = torch.export.load(file)
    except Exception as error:
        raise ModelError(
            f"{path} is damaged, or of another version of PyTorch than {torch.__version__}: {first_line(error)}"
        ) from error
    if not allow_pickle:
        program._guards_code = []  # Python source in the file, which would be run to check inputs
    return program


def _script(path: Path, allow_pickle: bool) -> Any:
    import torch

    if not allow_pickle:
        check_script(path)
    try:
        return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ModelError(f"{path} is damaged, or needs operators that are not here: {first_line(error)}") from error


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file as load_tensors

    try:
        return load_tensors(path)  # type: ignore[no-any-return]
    except SafetensorError as error:
        raise ModelError(f"{path} is a truncated or damaged safetensors file: {first_line(error)}") from error


def _module(content: Mapping[str, Any], path: Path, factory: str | Callable[[], Any] | None) -> tuple[Any, list[str]]:
    """The factory's module with the weights of a file."""
    import torch

    weights, notes = _weights(content, path)
    if factory is None:
        raise RecipeError(
            f"{path} holds {len(weights)} tensors ({_list(weights)}) and no graph: give what builds the module, "
            "--factory FILE.py:NAME (factory=), or export the module with torch.export.save"
        )
    build = load_callable(factory) if isinstance(factory, str) else factory
    module = call_user_code(build, "the factory")
    if not isinstance(module, torch.nn.Module):
        raise RecipeError(f"the factory must give a torch.nn.Module, and gave {type(module).__name__}")
    try:
        missing, unexpected = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        wrong = str(error).splitlines()[1:2]
        raise ModelError(
            f"the weights of {path} do not fit {type(module).__name__}: {' '.join(wrong).strip()}; give the factory the "
            "arguments with which the weights were trained"
        ) from error
    # A tied tensor is stored under one of its names alone.
    state = module.state_dict(keep_vars=True)
    loaded = {id(state[name]) for name in weights if name in state}
    missing = [name for name in missing if id(state.get(name)) not in loaded]
    if missing or unexpected:
        raise ModelError(
            f"the weights of {path} do not fit {type(module).__name__}: missing {_list(missing)}; not in the module "
            f"{_list(unexpected)}; give the factory the arguments with which the weights were trained"
        )
    return module, notes


def _weights(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    import torch

    key = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    notes = [] if key is None else [f"the weights are those under {key!r} of the checkpoint"]
    found = dict(content if key is None else content[key])
    other = next((name for name, value in found.items() if not isinstance(value, torch.Tensor)), None)
    if other is not None or not found:
        what = "nothing" if not found else f"a {type(found[other]).__name__} under {other!r}"
        raise ModelError(f"{path} holds {what}, where weights are expected: save module.state_dict()")
    if all(name.startswith(_PARALLEL) for name in found):
        found = {name.removeprefix(_PARALLEL): value for name, value in found.items()}
        notes.append(f"the names of the weights lost the {_PARALLEL!r} of DataParallel")
    return found, notes


def _list(names: Any) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(map(str, shown[:_SHOWN])) + more if shown else "nothing"
