"""The door: a PyTorch object or file in, an onnx-ir model and notes about the way out."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir

from fewbit.errors import DataError, FewbitError, ModelError, RecipeError
from fewbit.extras import load_extra
from fewbit.formats.torch import dynamic
from fewbit.formats.torch.convert import from_program, from_script, inputs_of, output_names, outputs_of
from fewbit.formats.torch.dynamic import Shapes
from fewbit.formats.torch.examples import bind, signature_of
from fewbit.formats.torch.failures import export_error, first_line, place_of
from fewbit.formats.torch.files import load_file
from fewbit.formats.torch.modules import evaluated, exportable, float_dtype
from fewbit.formats.torch.naming import name_by_modules
from fewbit.formats.torch.quiet import quiet

Export = Callable[[Shapes], tuple[ir.Model, list[str]]]
"""Exports with these sizes; gives the model and the names of its inputs, one for each leaf of the arguments."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A model, and what its user should know about how it came in."""

    model: ir.Model
    notes: list[str]


def import_torch(
    model: Any,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    factory: str | Callable[[], Any] | None = None,
    allow_pickle: bool = False,
) -> Imported:
    """Import a model of PyTorch.

    Args:
        model: a torch.nn.Module, an ExportedProgram, a TorchScript module, or the path of a file with one of the last two
            (.pt2, .pt), with weights (.pt, .pth, .safetensors; with `factory`), or with a pickled module.
        example_inputs: for a module: a tensor or array, a tuple of positional arguments of forward, or a mapping of its
            argument names. An exported program has its own. Only shapes and dtypes matter, unless the module's flow
            depends on the data.
        dynamic_shapes: torch.export's, in which a size can also be a name: {"ids": {0: "batch", 1: "sequence"}}. None: the
            first axis of every input is the batch, where all have one size there and the module's code allows it.
        factory: for a file of weights, what builds the module: a callable, or `FILE.py:NAME("literal", ...)`.
        allow_pickle: unpickle files that run code when they are loaded. The code can do whatever you can: allow it only for
            files whose maker you trust.

    Raises:
        MissingExtraError: torch or onnxscript is not installed.
        ModelError: the file is damaged or refused, or the module cannot be exported: where, why, and what to change.
        DataError: the example inputs are missing, or do not fit.
        RecipeError: options that do not fit the model or each other.
    """
    torch = load_extra("torch", "a PyTorch model")
    load_extra("onnxscript", "a PyTorch model")
    with quiet():
        notes: list[str] = []
        if isinstance(model, str | Path):
            label = str(model)
            model, notes = load_file(Path(model), factory, allow_pickle)
        elif factory is not None:
            raise RecipeError(
                f"factory builds the module for a file of weights, and the model is {type(model).__name__}"
            )
        else:
            label = type(model).__name__
        if isinstance(model, torch.export.ExportedProgram):
            if example_inputs is not None or dynamic_shapes is not None:
                raise RecipeError(f"{label} is an exported program: its inputs and dynamic shapes are in it, give none")
            done = _program(model, label)
        elif isinstance(model, torch.nn.Module | torch.jit.ScriptFunction):
            done = _module(model, label, example_inputs, dynamic_shapes)
        else:
            raise ModelError(f"{label} is a {type(model).__name__}, not a module, a TorchScript module or a program")
    done.model.graph.name = label
    return Imported(done.model, notes + done.notes)


def _program(program: Any, label: str) -> Imported:
    try:
        return Imported(_named(program), [])
    except FewbitError:
        raise
    except Exception as error:
        raise export_error(error, label) from error


def _module(module: Any, label: str, example: Any, asked: Any) -> Imported:
    import torch

    is_function = isinstance(module, torch.jit.ScriptFunction)
    signature = signature_of(module)
    module, notes = (module, []) if is_function else exportable(module)
    bound = bind(signature, example, None if is_function else float_dtype(module))
    export = _export_script if isinstance(module, torch.jit.ScriptModule | torch.jit.ScriptFunction) else _export_module
    with nullcontext() if is_function else evaluated(module):
        try:
            model, more = _with_sizes(partial(export, module, bound), dict(bound.arguments), asked)
        except FewbitError:
            raise
        except Exception as error:
            _check_example(module, bound, label)
            raise export_error(error, label) from error
        if any(not x.is_floating_point() for x in _tensors(bound)):
            _check_example(module, bound, label)  # export lets integers through to layers that take floats
    return Imported(model, notes + more)


def _with_sizes(export: Export, arguments: dict[str, Any], asked: Any) -> tuple[ir.Model, list[str]]:
    """The model with the dynamic sizes that were asked for, or else with a dynamic batch if that is possible."""
    if asked is not None:
        wanted = dynamic.wanted(arguments, asked)
        model, inputs = export(wanted)
        dynamic.name_axes(model, dict(zip(inputs, wanted.names, strict=True)))
        return model, []
    fixed = dynamic.fixed(arguments)
    shapes, why = dynamic.first_axes(arguments)
    if shapes is not None:
        try:
            model, inputs = export(shapes)
        except FewbitError:
            raise
        except Exception as error:  # noqa: BLE001 - see above; without a dynamic batch it may work
            why = f"a batch of any size cannot be exported ({first_line(error)})"
        else:
            left = dynamic.name_axes(model, dict(zip(inputs, shapes.names, strict=True)))
            if not left:
                return model, []
            why = f"the module's code fixes {', '.join(left)}"
            if not shapes.repeated:
                return model, [f"the batch is fixed: {why}"]
    return export(fixed)[0], [f"the sizes of the inputs are fixed to those of the example: {why}"]


def _export_module(module: Any, bound: inspect.BoundArguments, shapes: Shapes) -> tuple[ir.Model, list[str]]:
    """The model of a module, and the names of its inputs."""
    import torch

    given = inspect.BoundArguments(bound.signature, OrderedDict(shapes.arguments))
    program = torch.export.export(module, given.args, given.kwargs, dynamic_shapes=shapes.spec)
    return _named(program), inputs_of(program)


def _export_script(script: Any, bound: inspect.BoundArguments, shapes: Shapes) -> tuple[ir.Model, list[str]]:
    """The same of a TorchScript module or function: retraced, or else by the exporter for TorchScript."""
    import torch
    from torch._export.converter import TS2EPConverter

    names, values = list(shapes.arguments), tuple(shapes.arguments.values())
    try:
        traced = TS2EPConverter(script, values).convert().module(check_guards=False)
        by_place = tuple(shapes.spec.values()) if isinstance(shapes.spec, Mapping) else shapes.spec
        program = torch.export.export(traced, values, dynamic_shapes=by_place)
        return _named(program, names), names
    except FewbitError:
        raise
    except Exception as first:  # noqa: BLE001 - as above; it is raised again unless the other exporter can
        try:
            axes = {name: named for name, named in zip(names, shapes.names, strict=True) if named}
            model = from_script(script, shapes.arguments, axes)
        except Exception:  # noqa: BLE001 - what the newer exporter says is the more useful of the two
            raise first from None
        name_by_modules(model, output_names(len(model.graph.outputs)))
        return model, names


def _named(program: Any, inputs: Sequence[str] = ()) -> ir.Model:
    model = from_program(program)
    for value, name in zip(model.graph.inputs, inputs, strict=False):
        value.name = name
    name_by_modules(model, outputs_of(program))
    return model


def _tensors(bound: inspect.BoundArguments) -> list[Any]:
    import torch
    from torch.utils import _pytree as tree

    return [leaf for leaf in tree.tree_leaves((bound.args, bound.kwargs)) if isinstance(leaf, torch.Tensor)]


def _check_example(module: Any, bound: inspect.BoundArguments, label: str) -> None:
    """Raise DataError if it is not the export that fails, but the module itself on these inputs."""
    import torch

    try:
        with torch.no_grad():
            module(*bound.args, **bound.kwargs)
    except Exception as error:
        raise DataError(
            f"{label} itself fails on the example inputs{place_of(error)}: {type(error).__name__}: {first_line(error)}"
        ) from error
