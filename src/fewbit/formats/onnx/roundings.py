"""Where a lowered plan rounds floats to integers: what two runtimes decide otherwise now and then.

They add floats in other orders and have other exponential functions, so that a number that is close to the middle between two
integers becomes one in the one and the other in the other. To see whether they compute the same otherwise, one is given the
floats of the other there.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fewbit.formats.onnx.dynamic import AS_IT_RUNS
from fewbit.graph.hub import Hub

ROUNDS = "fewbit.rounds"
"""Key in the metadata of a lowered QuantizeLinear of a number that was computed in float."""


def rounded_floats(model: ir.Model) -> list[str]:
    """The names of the values in a lowered plan that are computed in float and rounded to integers, by a QuantizeLinear or by
    a product as it runs."""
    found: dict[str, None] = {}
    for node in model.graph:
        value = node.inputs[0] if {ROUNDS, AS_IT_RUNS} & set(node.metadata_props) else None
        maker = None if value is None else value.producer()
        if value is not None and maker is not None and maker.op_type != "DequantizeLinear":
            found[str(value.name)] = None
    return list(found)


def with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy that gives these values too, after its outputs."""
    copy = model.clone()
    copy.graph.outputs.extend(_values(copy, names))
    return copy


def with_given(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy in which these values are inputs; it gives, after its outputs, what it would have computed for them."""
    hub = Hub(model.clone())
    for value in _values(hub.model, names):
        given = ir.Value(name=value.name, type=value.type or ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
        value.replace_all_uses_with(given)
        value.name = hub.fresh_name(f"{given.name}_computed")
        hub.graph.inputs.append(given)
        hub.graph.outputs.append(value)
    return hub.model


def _values(model: ir.Model, names: Sequence[str]) -> list[ir.Value]:
    made = {value.name: value for node in model.graph for value in node.outputs}
    return [made[name] for name in names]
