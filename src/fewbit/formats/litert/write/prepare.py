"""The hub with every size known and everything folded that follows from sizes: what a .tflite with fixed shapes holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from fewbit.errors import ModelError
from fewbit.graph.edit import is_op
from fewbit.graph.fixed_inputs import fix_inputs
from fewbit.graph.hub import Hub, shape_of
from fewbit.graph.load import load
from fewbit.graph.rules import fold_constants
from fewbit.graph.shapes import infer_shapes

HALF = "DequantizeHalf"
"""Stands for the Cast of a float16 constant to float32, which folding would undo: the file keeps the 16 bits."""
DOMAIN = "fewbit.litert"

_ALL_OUTPUTS = frozenset(("LSTM", "GRU", "RNN"))
"""Operators whose first output may be left out."""


def prepare(hub: Hub, shapes: Mapping[str, Sequence[int]] | None) -> Hub:
    """The hub, normalized and with fixed shapes; it is changed.

    Raises:
        DataError: a size of an input is not known and not given, or one that is given contradicts the model.
        ModelError: the size of some value does not follow from those of the inputs.
    """
    fix_inputs(hub, shapes or {})
    for node in hub.nodes():
        for value in node.outputs:
            if not value.name and node.op_type in _ALL_OUTPUTS:
                value.name = hub.fresh_name(f"{node.name}_unread")
            if not _is_known(value):
                value.shape = None  # sizes that depend on the inputs are found anew
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""  # ONNX Runtime's own have 16 bits at any opset, and are the same
        source = node.inputs[0] if node.inputs else None
        if is_op(node, "Cast") and source is not None and source.const_value is not None:
            half = source.const_value.dtype == ir.DataType.FLOAT16
            if half and node.attributes.get_int("to", 0) == int(ir.DataType.FLOAT):
                node.op_type, node.domain = HALF, DOMAIN
                node.outputs[0].shape, node.outputs[0].type = source.shape, ir.TensorType(ir.DataType.FLOAT)
    hub.model.opset_imports[DOMAIN] = 1
    infer_shapes(hub.model)
    hub = load(hub)
    fold_constants.apply(hub, always=True)
    infer_shapes(hub.model)
    for node in hub.nodes():
        for value in node.outputs:
            if value.name and not _is_known(value):
                raise ModelError(
                    f"a LiteRT file needs every size, and {value.name!r} of {node.op_type} {node.name!r} has the shape "
                    f"{shape_of(value)}, which does not follow from the inputs; give the sizes that it depends on"
                )
    return hub


def _is_known(value: ir.Value) -> bool:
    shape = shape_of(value)
    return shape is not None and all(isinstance(size, int) for size in shape)
