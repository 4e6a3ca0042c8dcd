"""How a module is called: from the arguments of its forward to the inputs of a graph, and from outputs to what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from fewbit.errors import DataError, ModelError
from fewbit.formats.torch.examples import bind, signature_of
from fewbit.formats.torch.modules import evaluated, exportable, float_dtype
from fewbit.graph.hub import Hub


@dataclass(frozen=True)
class Tree:
    """Nested tuples, lists and dictionaries whose leaves are tensors or constants.

    nest: the nesting, with the number of each leaf in its place. constants: for each leaf that is no tensor its number and
        value.
    """

    nest: Any
    constants: tuple[tuple[int, Any], ...]

    @classmethod
    def of(cls, value: Any) -> Tree:
        leaves, spec = tree.tree_flatten(value)
        constants = tuple((i, leaf) for i, leaf in enumerate(leaves) if not isinstance(leaf, Tensor))
        return cls(tree.tree_unflatten(range(len(leaves)), spec), constants)

    @property
    def spec(self) -> tree.TreeSpec:
        """torch's description of the nesting."""
        return tree.tree_structure(self.nest)

    @property
    def tensors(self) -> int:
        """How many leaves are tensors."""
        return len(tree.tree_leaves(self.nest)) - len(self.constants)

    def build(self, tensors: Sequence[Tensor]) -> Any:
        """The nesting with these tensors as its leaves."""
        left, constants = iter(tensors), dict(self.constants)
        return tree.tree_map(lambda i: constants[i] if i in constants else next(left), self.nest)


@dataclass(frozen=True)
class Interface:
    """The arguments of forward by name, in order, and what it returns."""

    names: tuple[str, ...]
    arguments: Tree
    returned: Tree

    @classmethod
    def of_graph(cls, hub: Hub) -> Interface:
        """One argument an input; one output alone, several as a tuple."""
        names = tuple(info.name for info in hub.inputs)
        blank = torch.empty(0)
        outputs: Any = (blank,) * len(hub.outputs)
        return cls(names, Tree.of(dict.fromkeys(names, blank)), Tree.of(outputs[0] if len(outputs) == 1 else outputs))

    @classmethod
    def of_module(cls, module: nn.Module, example: Any, hub: Hub) -> Interface:
        """That of a module as it is called with an example.

        Raises:
            ModelError: forward takes any number of arguments, or the graph has other inputs or outputs than it.
        """
        signature = signature_of(module)
        loose = [str(p) for p in signature.parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        module, _ = exportable(module)
        bound = bind(signature, example, float_dtype(module))
        if any(name.lstrip("*").split(":")[0] in bound.arguments for name in loose):
            raise ModelError(
                f"forward takes {', '.join(loose)}: wrap the module in one whose forward names its arguments"
            )
        with torch.no_grad(), evaluated(module):
            returned = Tree.of(module(*bound.args, **bound.kwargs))
        arguments = Tree.of(dict(bound.arguments))
        for what, tensors, graph in (
            ("takes", arguments.tensors, len(hub.inputs)),
            ("returns", returned.tensors, len(hub.outputs)),
        ):
            if tensors != graph:
                raise ModelError(
                    f"forward {what} {tensors} tensors, and the exported graph has {graph}; prepare its ONNX file"
                )
        return cls(tuple(bound.arguments), arguments, returned)

    def example(self, example: Any) -> list[Tensor]:
        """The tensors of an example as `prepare` takes it: one argument, a tuple of them, or a mapping of names."""
        named = isinstance(example, Mapping)
        given: Any = example if isinstance(example, Mapping | tuple | list) else (example,)
        given = tree.tree_map(lambda x: torch.from_numpy(x) if isinstance(x, np.ndarray) else x, given)
        return self.feeds((), dict(given)) if named else self.feeds(given, {})

    def feeds(self, positional: Sequence[Any], named: dict[str, Any]) -> list[Tensor]:
        """The tensors of a call, in the order of the graph's inputs.

        Raises:
            DataError: the arguments are not those of the example.
        """
        given = {**dict(zip(self.names, positional, strict=False)), **named}
        wrong = [name for name in given if name not in self.names]
        if wrong or len(positional) > len(self.names) or len(given) != len(positional) + len(named):
            raise DataError(
                f"the module takes {', '.join(self.names)}; {len(positional)} came by position and "
                f"{', '.join(named) or 'none'} by name"
            )
        defaults = self.arguments.build([_MISSING] * self.arguments.tensors)
        arguments = {name: given.get(name, defaults[name]) for name in self.names}
        missing = [name for name, value in arguments.items() if any(x is _MISSING for x in tree.tree_leaves(value))]
        if missing:
            raise DataError(f"the module takes {', '.join(self.names)}, and {', '.join(missing)} is missing")
        leaves, spec = tree.tree_flatten(arguments)
        constants = dict(self.arguments.constants)
        if spec != self.arguments.spec:
            raise DataError(
                f"the arguments are nested otherwise than those of the example: {spec}, not {self.arguments.spec}"
            )
        for index, leaf in enumerate(leaves):
            if (index in constants) == isinstance(leaf, Tensor) or (index in constants and leaf != constants[index]):
                raise DataError(
                    f"an argument is {_shown(leaf)} where the example had {_shown(constants.get(index, _MISSING))}: the graph "
                    "was made for that; prepare the model with the other example"
                )
        return [leaf for index, leaf in enumerate(leaves) if index not in constants]


_MISSING = torch.empty(0)


def _shown(leaf: Any) -> str:
    return "a tensor" if isinstance(leaf, Tensor) else repr(leaf)
