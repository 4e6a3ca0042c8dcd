"""Emitting nodes and constants into a hub graph: the vocabulary that the lowering of every op speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import PlanError
from fewbit.graph.hub import Hub
from fewbit.plan.plan import Plan, SitePlan
from fewbit.spec import DType, QParams

_IR_TYPES = {
    ("int", 8): ir.DataType.INT8,
    ("uint", 8): ir.DataType.UINT8,
    ("int", 16): ir.DataType.INT16,
    ("uint", 16): ir.DataType.UINT16,
}
# QuantizeLinear of ONNX takes 16 bits from this opset on; before it, ONNX Runtime's own domain does.
_OPSET_16_BIT = OPSET_4_BIT = 21
CONTRIB = "com.microsoft"


@dataclass(frozen=True, slots=True)
class View:
    """Integers that stand for a float value: real = (value - zero_point) * scale."""

    value: ir.Value
    dtype: DType
    scale: float
    zero_point: int
    made: bool  # no float value is left: every reader must read the integers or dequantize them


class Emitter:
    """Adds nodes and constants to the graph of a hub; equal constants are stored once."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.graph = hub.graph
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._byte_rows: dict[ir.Value, ir.Value] = {}
        self._indices: dict[ir.Value, ir.Value] = {}
        self._dequantized: dict[tuple[int, float], ir.Value] = {}
        self._taken = {str(v.name) for node in hub.graph.all_nodes() for v in node.outputs}
        self._taken |= set(hub.graph.initializers) | {str(v.name) for v in hub.graph.inputs}
        self._count = 0

    def name(self, hint: str) -> str:
        """A name that nothing in the graph has."""
        while True:
            self._count += 1
            candidate = f"{hint}_{self._count}"
            if candidate not in self._taken:
                self._taken.add(candidate)
                return candidate

    def constant(self, array: NDArray[Any], hint: str) -> ir.Value:
        """An initializer; small ones with equal contents are shared."""
        array = np.asarray(array, order="C")  # ascontiguousarray would give a scalar an axis
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= 4096 else repr(id(array)).encode())
        if key not in self._constants:
            tensor = ir.tensor(array, name=self.name(hint))
            value = ir.Value(
                name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def node(
        self,
        op: str,
        inputs: list[ir.Value | None],
        hint: str,
        *,
        dtype: ir.DataType | None = None,
        outputs: int = 1,
        domain: str = "",
        **attributes: Any,
    ) -> tuple[ir.Value, ...]:
        """A new node at the end of the graph (the lowering sorts at the end)."""
        node = ir.node(op, inputs, attributes=attributes, domain=domain, num_outputs=outputs, name=self.name(hint))
        for output in node.outputs:
            output.name = self.name(hint)
            if dtype is not None:
                output.dtype = dtype
        if domain and domain not in self.graph.opset_imports:
            self.graph.opset_imports[domain] = 1
        self.graph.append(node)
        return tuple(node.outputs)

    def to_float(self, value: ir.Value) -> ir.Value:
        return self.node("Cast", [value], "w", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)[0]

    def byte_rows(self, table: NDArray[Any], bits: int) -> ir.Value:
        """What every byte stands for that packs indices of 1, 2, 4 or 8 bits into a table: (256, 8 / bits), made once."""
        short = (1 << bits) - table.size
        levels = self.constant(np.pad(table, (0, short), mode="edge"), "levels")
        if levels not in self._byte_rows:
            shifts = np.arange(0, 8, bits, dtype=np.uint8)
            parts = self.constant((np.arange(256, dtype=np.uint8)[:, None] >> shifts) & ((1 << bits) - 1), "parts")
            if parts not in self._indices:
                self._indices[parts] = self.to_index(parts)
            self._byte_rows[levels] = self.gather(levels, self._indices[parts])
        return self._byte_rows[levels]

    def to_index(self, value: ir.Value) -> ir.Value:
        return self.node("Cast", [value], "index", dtype=ir.DataType.INT32, to=ir.DataType.INT32)[0]

    def gather(self, table: ir.Value, indices: ir.Value) -> ir.Value:
        return self.node("Gather", [table, indices], "w", dtype=table.dtype)[0]

    def domain_of(self, dtype: DType) -> str:
        return CONTRIB if dtype.bits > 8 and self.hub.opset < _OPSET_16_BIT else ""

    def quantize(self, value: ir.Value, site: SitePlan, *, made: bool, scale: float | None = None) -> View:
        """QuantizeLinear by a site's parameters; `scale` where the value is a multiple of what the site describes."""
        params = require(site)
        dtype = params.spec.dtype
        real = float(params.scale) if scale is None else scale
        zero_point = int(params.zero_point)
        if site.balance is not None and not made:
            # Not by a quantizer with one scale a channel: that kernel takes ten times as long as this multiplication.
            # Of an unknown rank the channels are the last axis, along which a vector broadcasts.
            rank = 1 if value.shape is None else len(value.shape)
            axis = int(site.channel_axis or 0) % rank
            shape = [-1 if a == axis else 1 for a in range(rank)]
            factors = self.constant((1.0 / site.balance).astype(np.float32).reshape(shape), "balance")
            (value,) = self.node("Mul", [value, factors], "balanced", dtype=ir.DataType.FLOAT)
        (output,) = self.node(
            "QuantizeLinear",
            [value, self.scalar(real), self.constant(np.array(zero_point, dtype.storage), "zp")],
            "q",
            dtype=ir_type(dtype),
            domain=self.domain_of(dtype),
        )
        if dtype.bits < 8:  # the tensor has 8 bits: the integers are held to fewer levels
            bounds: list[ir.Value | None] = [
                self.constant(np.array(b, dtype.storage), "bound") for b in (params.spec.qmin, params.spec.qmax)
            ]
            (output,) = self.node("Clip", [output, *bounds], "clip", dtype=ir_type(dtype))
        return View(output, dtype, float(params.scale), zero_point, made)

    def scalar(self, value: float) -> ir.Value:
        return self.constant(np.asarray(value, np.float32), "scale")

    def dequantize(self, view: View) -> ir.Value:
        """DequantizeLinear of a view, made once."""
        key = (id(view.value), view.scale)
        if key not in self._dequantized:
            (output,) = self.node(
                "DequantizeLinear",
                [
                    view.value,
                    self.scalar(view.scale),
                    self.constant(np.array(view.zero_point, view.dtype.storage), "zp"),
                ],
                "dq",
                dtype=ir.DataType.FLOAT,
                domain=self.domain_of(view.dtype),
            )
            self._dequantized[key] = output
        return self._dequantized[key]

    def dequantize_constant(
        self, integers: ir.Value, scale: NDArray[np.float32], axis: int, *, zero_point: bool, domain: str = ""
    ) -> ir.Value:
        """DequantizeLinear of a constant, symmetric; the zero point is written only where a kernel asks for it."""
        scale = scale.reshape(-1) if scale.size > 1 else scale.reshape(())
        inputs: list[ir.Value | None] = [integers, self.constant(scale, "scale")]
        if zero_point:
            inputs.append(self.constant(np.zeros(scale.shape, integers.dtype.numpy()), "zp"))  # type: ignore[union-attr]
        attributes: dict[str, Any] = {"axis": axis} if scale.ndim else {}
        return self.node("DequantizeLinear", inputs, "dq", dtype=ir.DataType.FLOAT, domain=domain, **attributes)[0]


def check_plan_of(hub: Hub, plan: Plan) -> None:
    """Raise PlanError for a plan of another graph."""
    if plan.fingerprint != hub.fingerprint():
        raise PlanError(
            f"the plan is of another graph: its fingerprint is {plan.fingerprint[:12]}, the model's is "
            f"{hub.fingerprint()[:12]}; make the plan again from this model"
        )


def inner_readers(graph: ir.Graph, value: ir.Value) -> list[tuple[ir.Node, int]]:
    """The nodes of subgraphs that read a value, each with the index of its input."""
    return [(reader, index) for reader, index in value.uses() if reader.graph is not graph]


def ir_type(dtype: DType) -> ir.DataType:
    """The ONNX type that stores a dtype of at most 16 bits, unpacked."""
    return _IR_TYPES[dtype.kind, 8 if dtype.bits <= 8 else 16]


def require(site: SitePlan) -> QParams:
    """The parameters of a site that calibration has filled."""
    if site.params is None:
        raise PlanError(f"site {site.site.name} of the plan has no scale: the plan was not calibrated; give samples")
    return site.params
