"""An exported program or a TorchScript module as an onnx-ir model, by PyTorch's exporters."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.formats.torch.failures import node_place
from fewbit.graph.hub import all_graphs

OPSET = 20
"""The newest opset whose int8 activations ONNX Runtime loads wherever a MatMul and its bias are fused."""

_TRAINING = {"aten.dropout.default": 2, "aten.feature_dropout.default": 2, "aten.batch_norm.default": 5}
"""Operator → position of its argument `training`."""


def from_program(program: Any) -> ir.Model:
    """The model of a torch.export.ExportedProgram; its tensors are copies.

    Raises:
        ModelError: it was exported in training mode, returns what is no tensor, or has a dtype that no kernel takes.
        Exception: what the exporter raises.
    """
    import torch
    from onnxscript.optimizer import optimize_ir

    _check_mode(program)
    _check_outputs(program)
    for name, tensor in program.state_dict.items():
        if tensor.dtype == torch.bfloat16:
            raise ModelError(
                f"the program's {name!r} is bfloat16, which no kernel takes: export the module after .float()"
            )
    made = torch.onnx.export(program, dynamo=True, verbose=False, optimize=False, opset_version=OPSET)
    model: ir.Model = made.model  # type: ignore[union-attr]
    optimize_ir(model, should_fold=_should_fold)
    return _owned(model)


def _check_outputs(program: Any) -> None:
    """Raise ModelError for numbers and the like beside the tensors that are returned; None is left out of the graph."""
    from torch.export.graph_signature import ConstantArgument

    for spec in program.graph_signature.output_specs:
        if isinstance(spec.arg, ConstantArgument) and spec.arg.value is not None:
            raise ModelError(
                f"forward returns {spec.arg.value!r}, which is no tensor, and a graph gives tensors alone: wrap the module in "
                "one that returns the tensors"
            )


def from_script(script: Any, arguments: Mapping[str, Any], axes: Mapping[str, Mapping[int, str]]) -> ir.Model:
    """The model of a TorchScript module, by the exporter for TorchScript.

    axes: input → axis → name of the sizes that are dynamic.

    Raises:
        Exception: what the exporter raises.
    """
    import onnx
    import torch

    file = io.BytesIO()
    torch.onnx.export(
        script,
        tuple(arguments.values()),
        file,  # type: ignore[arg-type]  # it takes files, which its annotation forgets
        dynamo=False,
        opset_version=OPSET,
        input_names=list(arguments),
        dynamic_axes={name: dict(found) for name, found in axes.items()},
    )
    return ir.from_proto(onnx.load_from_string(file.getvalue()))


def inputs_of(program: Any) -> list[str]:
    """The names of a program's inputs, one for each leaf of its arguments."""
    from torch.export.graph_signature import InputKind

    specs = program.graph_signature.input_specs
    return [spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT]


def outputs_of(program: Any) -> list[str]:
    """Names for a program's outputs by their place in what forward returns: `output`, `output_0`, or keys: `boxes.0`."""
    from torch.export.graph_signature import ConstantArgument, OutputKind
    from torch.utils import _pytree as tree

    specs = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    returned = tree.tree_unflatten(list(range(len(specs))), program.call_spec.out_spec)
    paths = tree.tree_flatten_with_path(returned)[0]
    return [
        _path_name(path)
        for (path, _), spec in zip(paths, specs, strict=True)
        if not isinstance(spec.arg, ConstantArgument)
    ]


def output_names(count: int) -> list[str]:
    """The same for so many outputs of which no more is known."""
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _path_name(path: tuple[Any, ...]) -> str:
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
    name = ".".join(parts)
    return f"output_{name}" if name[:1].isdigit() else name or "output"


def _check_mode(program: Any) -> None:
    """Raise ModelError for an operator that would do in the exported model what it does in training."""
    for node in program.graph.nodes:
        position = _TRAINING.get(str(node.target))
        if position is not None and len(node.args) > position and node.args[position]:
            raise ModelError(
                f"{str(node.target).partition('.default')[0]} is in training mode{node_place(node)}: call .eval() before "
                "exporting, and give functional dropout training=self.training"
            )


def _should_fold(node: ir.Node) -> bool | None:
    """What the exporter's optimizer asks of every node: what is made of weights is left to the hub's own rules, which keep
    their names and leave tied ones tied."""
    return False if any(value is not None and value.is_initializer() for value in node.inputs) else None


def _owned(model: ir.Model) -> ir.Model:
    """Replace tensors that look into PyTorch's memory, which its owner may change, by copies."""
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and type(tensor) is not ir.Tensor:  # the exporter's subclass of it looks into torch
                value.const_value = ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name)
    return model
