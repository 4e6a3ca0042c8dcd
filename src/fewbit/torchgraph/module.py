"""A hub as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import Tensor, nn

from fewbit.errors import DataError, ModelError
from fewbit.graph.hub import Hub, unique_name
from fewbit.graph.load import load
from fewbit.graph.rules.upgrade_opset import OLDEST
from fewbit.graph.shapes import infer_shapes
from fewbit.torchgraph.compile import Compiler
from fewbit.torchgraph.dtypes import to_tensor
from fewbit.torchgraph.execute import Executor
from fewbit.torchgraph.node import Host, Row, Value, as_tensor
from fewbit.torchgraph.program import Program, Schedule, schedule
from fewbit.torchgraph.weights import weights_of

OUTPUT = ""
"""The reader that `forward` is when it reads the outputs of the graph."""


def to_torch(
    model: str | Path | onnx.ModelProto | ir.Model | Hub,
    *,
    trainable: bool | Collection[str] = True,
    rows: Mapping[str, Row] | None = None,
) -> GraphModule:
    """A module that computes what the model computes.

    Args:
        model: a hub is taken as it is; anything else is loaded and normalized.
        trainable: whether the weights (`fewbit.torchgraph.weights`) are parameters, or the names of the constants that are.
        rows: operators besides those of `fewbit.torchgraph.ops`, or in their place, by name, with the domain in front.

    Raises:
        ModelError: operators without a row in `fewbit.torchgraph.ops`, all of them named; an opset before 13.
    """
    hub = load(model, normalize=not isinstance(model, Hub))
    if 0 < hub.opset < OLDEST:
        raise ModelError(
            f"the torch executor knows operators from opset {OLDEST} on, and the model has {hub.opset}; "
            f"load it with normalize=True"
        )
    if any(v.dtype is None for n in hub.graph.all_nodes() for v in n.outputs):
        infer_shapes(hub.model)
    return GraphModule(hub, trainable, rows)


@dataclass(frozen=True, eq=False)
class Hook:
    """A function in front of the readers of a value; `remove` takes it away."""

    name: str
    function: Callable[[Tensor], Tensor]
    readers: frozenset[str] | None
    module: GraphModule

    def remove(self) -> None:
        self.module.unhook(self)


class GraphModule(nn.Module):
    """The model as a module; made by `to_torch`.

    input_names, output_names: in the order of the graph.
    torch_names: for each constant that is a parameter or buffer its name in this module, which is its name in the hub with
        dots as underscores (and a number where that is taken). Constants that steer shapes are neither.
    """

    def __init__(
        self, hub: Hub, trainable: bool | Collection[str] = True, rows: Mapping[str, Row] | None = None
    ) -> None:
        super().__init__()
        compiler = Compiler(hub, rows or {})
        self._program = compiler.program
        self.input_names, self.output_names = self._program.inputs, self._program.outputs
        self._values = frozenset(self._program.values())
        self._host: dict[str, Host] = {name: compiler.constants[name] for name in compiler.on_host}
        self.torch_names: dict[str, str] = {}
        self._hooks: dict[str, list[Hook]] = {}
        self._kernels: dict[str, Callable[..., Tensor]] = {}
        self._schedules: dict[tuple[Program, frozenset[str], tuple[str, ...]], Schedule] = {}
        self._register({n: a for n, a in compiler.constants.items() if n not in self._host}, hub, trainable)

    def _register(self, arrays: Mapping[str, Host], hub: Hub, trainable: bool | Collection[str]) -> None:
        wanted = (weights_of(hub) if trainable else set()) if isinstance(trainable, bool) else set(trainable)
        taken = set(dir(self))
        for name, array in arrays.items():
            tensor = to_tensor(array).clone()
            self.torch_names[name] = key = unique_name(name.replace(".", "_"), taken)
            taken.add(key)
            if name in wanted and tensor.is_floating_point():
                self.register_parameter(key, nn.Parameter(tensor))
            else:
                self.register_buffer(key, tensor)
        if not isinstance(trainable, bool):
            unfit = [name for name in trainable if name not in dict(self._named_weights())]
            if unfit:
                raise ModelError(
                    f"{', '.join(map(repr, unfit))} cannot be trained: no floating-point constant of the graph has that name"
                )

    def _named_weights(self) -> Iterable[tuple[str, nn.Parameter]]:
        return ((n, p) for n, key in self.torch_names.items() if isinstance(p := getattr(self, key), nn.Parameter))

    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters that come from the model, by their names in the hub."""
        return dict(self._named_weights())

    def constant(self, name: str) -> Value:
        """A constant by its name in the hub: a parameter, a buffer, or an array where it steers shapes."""
        if name in self._host:
            return self._host[name]
        if name in self.torch_names:
            return getattr(self, self.torch_names[name])
        raise ModelError(f"the graph has no constant named {name!r}")

    def hook(self, name: str, function: Callable[[Tensor], Tensor], readers: Collection[str] | None = None) -> Hook:
        """Put a function in front of the readers of a value: an edge, an input, or a weight in the shape of the hub.

        Hooks of one value apply in the order in which they were set. A function that is a module becomes a part of this
        one, so that it moves, trains and is saved with it.

        Args:
            name: of the value in the hub.
            function: tensor to tensor of the same shape.
            readers: names of the nodes that get what the function gives, `OUTPUT` for the output of the graph; None: all.

        Raises:
            ModelError: no such value, or a reader that does not read it.
        """
        if name not in self._values and name not in self.torch_names:
            raise ModelError(f"no hook can be set on {name!r}: the graph computes no value of this name with torch")
        if readers is not None:
            known = {reader for value, reader in self._program.reads() if value == name}
            known |= {OUTPUT} if name in self.output_names else set()
            strangers = sorted(set(readers) - known)
            if strangers:
                raise ModelError(f"{name!r} is not read by {', '.join(map(repr, strangers))}; it is by {sorted(known)}")
        hook = Hook(name, function, None if readers is None else frozenset(readers), self)
        self._hooks.setdefault(name, []).append(hook)
        self._schedules.clear()
        if isinstance(function, nn.Module):
            key = unique_name(
                f"hook_{self.torch_names.get(name, name).replace('.', '_')}", {*dir(self), *self._modules}
            )
            self.add_module(key, function)
        return hook

    def unhook(self, hook: Hook) -> None:
        """Take a hook away. Raises ModelError when it is not set."""
        if hook not in self._hooks.get(hook.name, ()):
            raise ModelError(f"the hook on {hook.name!r} is not set any more")
        self._hooks[hook.name].remove(hook)
        for key in [k for k, m in self._modules.items() if m is hook.function]:
            if not any(h.function is hook.function for hooks in self._hooks.values() for h in hooks):
                del self._modules[key]
        self._schedules.clear()

    def set_kernel(self, node: str, kernel: Callable[..., Tensor]) -> None:
        """Let a function have the last word on what a node makes: `kernel(output, *inputs)` gives the output in its place.

        Raises:
            ModelError: no such node.
        """
        if node not in {step.node.name for step in self._program.steps}:
            raise ModelError(f"no kernel can be set for {node!r}: the graph has no node of this name")
        self._kernels[node] = kernel

    def forward(self, *inputs: Value, capture: Sequence[str] = (), **named: Value) -> Any:
        """The outputs of the graph as a tuple, as its readers get them (hooks on outputs applied).

        Args:
            inputs, named: in the order of `input_names`, or by name.
            capture: names of values that are given too, as they were made: the result is then (outputs, dict of them).

        Raises:
            DataError: an input is missing, unknown or given twice.
            ModelError: a value that is asked for does not exist, or a node cannot run on what it gets.
        """
        made, read = self._run(self._feeds(inputs, named), (*self.output_names, *capture))
        outputs = tuple(read(name, OUTPUT, made[name]) for name in self.output_names)
        return (outputs, {name: made[name] for name in capture}) if capture else outputs

    def run(self, feeds: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        """Some values from others: only what lies between is computed.

        Args:
            feeds: inputs and intermediate values, by name, as they are made (hooks apply where they are read).
            outputs: names of the values to be made.

        Returns:
            the values as they were made, before hooks; numbers on the host come as tensors.

        Raises:
            ModelError: a value does not exist, is needed and not given, or a node cannot run on what it gets.
        """
        return self._run(feeds, outputs)[0]

    def _run(self, feeds: Mapping[str, Value], outputs: Sequence[str]) -> tuple[dict[str, Value], _Reading]:
        unknown = [n for n in (*feeds, *outputs) if n not in self._values and n not in self.torch_names]
        unknown = [n for n in unknown if n not in self._host]
        if unknown:
            raise ModelError(f"the graph has no values named {', '.join(map(repr, unknown))}")
        reading = _Reading(self._hooks)
        executor = Executor(self.constant, self._schedule, reading, self._kernels)
        made = executor.run(self._program, dict(feeds), tuple(outputs))
        return {n: as_tensor(value) for n, value in zip(outputs, made, strict=True)}, reading

    def _feeds(self, inputs: Sequence[Value], named: Mapping[str, Value]) -> dict[str, Value]:
        feeds = {**dict(zip(self.input_names, inputs, strict=False)), **named}
        if (
            len(inputs) > len(self.input_names)
            or len(feeds) != len(inputs) + len(named)
            or set(feeds) != set(self.input_names)
        ):
            raise DataError(
                f"the model has the inputs {', '.join(self.input_names)}; {len(inputs)} came by position and "
                f"{', '.join(named) or 'none'} by name"
            )
        return feeds

    def _schedule(self, program: Program, given: Collection[str], wanted: Sequence[str]) -> Schedule:
        key = (program, frozenset(given), tuple(wanted))
        if key not in self._schedules:
            constants = self._host.keys() | self.torch_names.keys()
            self._schedules[key] = schedule(program, given, wanted, constants, [n for n, h in self._hooks.items() if h])
        return self._schedules[key]


class _Reading:
    """Applies hooks; what several readers get from one value through the same hooks is computed once."""

    def __init__(self, hooks: Mapping[str, Sequence[Hook]]) -> None:
        self._hooks = hooks
        self._done: dict[tuple[str, tuple[Hook, ...]], tuple[Value, Value]] = {}

    def __call__(self, name: str, reader: str, value: Value) -> Value:
        hooks = self._hooks.get(name)
        if not hooks:
            return value
        active = tuple(h for h in hooks if h.readers is None or reader in h.readers)
        if not active:
            return value
        source, result = self._done.get((name, active), (None, None))
        if source is not value:
            result = as_tensor(value)
            for hook in active:
                result = hook.function(result)
            self._done[name, active] = value, result
        return result

    def release(self, name: str) -> None:
        for key in [key for key in self._done if key[0] == name]:
            del self._done[key]
