"""A copy of a float graph with nodes added that look at its values: what taps, shifts and noise are built from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.hub import Hub
from fewbit.spec import QParams

_AXES_AS_INPUT = 18  # the opset from which reductions take their axes as an input

Balance = tuple[int, NDArray[np.float32]]
"""Channel axis, and the factors by which its channels are divided before they are quantized."""


class Probe:
    """Adds nodes and constants to a copy of a hub. `values` are the copy's values by name."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub.clone()
        self.graph = self.hub.graph
        self.values = {str(v.name): v for v in self.hub.values()}
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def deepest_first(self, names: Iterable[str]) -> list[str]:
        """The names, values that are computed last first: the order in which to add nodes that only look.

        ONNX Runtime walks the graph depth-first from its leaves, beginning with the one written last. If that is the deepest,
        the whole network runs before anything is looked at, and all activations stay in memory until then.
        """
        position = {name: index for index, name in enumerate(self.values)}
        return sorted(names, key=lambda name: -position[name])

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """An initializer; equal small ones are shared."""
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= 64 else str(self._count).encode())
        if key not in self._constants:
            self._count += 1
            tensor = ir.tensor(array, name=f"probe_constant_{self._count}")
            value = ir.Value(
                name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def node(self, op: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A new node of one output."""
        self._count += 1
        made = ir.node(op, inputs, attributes=attributes, name=f"probe_node_{self._count}")
        made.outputs[0].name = f"probe_value_{self._count}"
        self.graph.append(made)
        return made.outputs[0]

    def again(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Value:
        """A second node like one of one output that is there, with other inputs."""
        made = self.node(node.op_type, inputs, **node.attributes)
        made.type, made.shape = node.outputs[0].type, node.outputs[0].shape
        return made

    def reduce(self, op: str, value: ir.Value, axes: Sequence[int], *, keep: bool = False) -> ir.Value:
        """A reduction that drops the axes, or keeps them with size 1; without axes the value itself."""
        if not axes:
            return self.node("Identity", [value])
        if self.hub.opset >= _AXES_AS_INPUT:
            return self.node(op, [value, self.constant(np.asarray(axes, np.int64))], keepdims=int(keep))
        return self.node(op, [value], axes=list(axes), keepdims=int(keep))

    def along(self, vector: NDArray[np.floating], axis: int, rank: int) -> ir.Value:
        """A vector shaped to broadcast along one axis of values of a rank."""
        return self.constant(vector.astype(np.float32).reshape([-1 if a == axis % rank else 1 for a in range(rank)]))

    def rounded(self, value: ir.Value, params: QParams, balance: Balance | None = None) -> ir.Value:
        """QuantizeLinear and DequantizeLinear by the parameters of a tensor; its channels are divided by balance factors
        before, and multiplied after."""
        if balance is not None:
            factors = self.along(balance[1], balance[0], 1 if value.shape is None else len(value.shape))
            return self.node("Mul", [self.rounded(self.node("Div", [value, factors]), params), factors])
        scale = self.constant(np.asarray(params.scale, np.float32).reshape(()))
        zero = self.constant(np.asarray(params.zero_point).astype(params.spec.dtype.storage).reshape(()))
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, scale, zero]), scale, zero])

    def rounded_as_it_runs(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Rounded to 256 levels between the least and the greatest number over the axes, and zero."""
        low, high = (
            self.node(
                end, [self.reduce(f"Reduce{end}", value, axes, keep=True), self.constant(np.zeros((), np.float32))]
            )
            for end in ("Min", "Max")
        )
        span = self.node("Sub", [high, low])
        step = self.node("Div", [span, self.constant(np.asarray(255.0, np.float32))])
        step = self.node("Max", [step, self.constant(np.asarray(np.finfo(np.float32).tiny))])  # of zeros alone
        return self.node("Mul", [self.node("Round", [self.node("Div", [value, step])]), step])

    def model(self, outputs: Sequence[ir.Value]) -> ir.Model:
        """The copy with these outputs alone, and without what only others need: the runtime would run it, and first."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        self.graph.outputs.clear()
        self.graph.outputs.extend(outputs)
        RemoveUnusedNodesPass()(self.hub.model)
        return self.hub.model
