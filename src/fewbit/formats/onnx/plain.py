"""Lower a plan to plain QDQ: every node as it was, between DequantizeLinear and QuantizeLinear of its activations, behind
DequantizeLinear of its weights. Nothing in it is an idiom of one runtime, so it is what other formats are written from, and
what a plan means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import PlanError
from fewbit.formats.onnx.dynamic import AS_IT_RUNS
from fewbit.formats.onnx.emit import CONTRIB, OPSET_4_BIT, Emitter, View, check_plan_of, inner_readers, require
from fewbit.formats.onnx.roundings import ROUNDS
from fewbit.formats.onnx.weights import integer_bias, integers_of
from fewbit.graph.facts import bias_add, clip_bounds, set_bias
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import balanced_bias
from fewbit.plan.plan import NodePlan, Plan, SitePlan
from fewbit.plan.rewrites import rewritten
from fewbit.plan.wiring import WITH_OPERAND, constant_operand, data_inputs, node_bias, rescale_of
from fewbit.spec import INT4, DType


def lower_plain(hub: Hub, plan: Plan) -> ir.Model:
    """The quantized model; the hub is not changed.

    Raises:
        PlanError: the plan is of another graph, was never calibrated, or holds what has no plain form (codebooks).
    """
    check_plan_of(hub, plan)
    return _Lowering(rewritten(hub, plan.rewrites).clone(), plan).run()


class _Lowering:
    """views: the integers that stand for a value, and everyone reads where they are `made`."""

    def __init__(self, hub: Hub, plan: Plan) -> None:
        self.hub, self.plan, self.emit = hub, plan, Emitter(hub)
        self.views: dict[ir.Value, View] = {}

    def run(self) -> ir.Model:
        nodes = self.hub.nodes()
        names = {str(node.name): node for node in nodes}
        for node in nodes:
            plan = self.plan.nodes.get(str(node.name))
            if plan is None:
                raise PlanError(f"the plan has no entry for node {node.name}; make the plan again from this model")
            if plan.form == "absorbed":
                continue
            if plan.form in ("dynamic", "weight_only"):
                node.metadata_props[AS_IT_RUNS] = plan.form
            if plan.form in ("integer", "passthrough"):
                self._integer(node, plan, names)
            else:
                self._float(node, plan)
        self._finish()
        return self.hub.model

    def _float(self, node: ir.Node, plan: NodePlan) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value in self.views and self.views[value].made:
                node.replace_input_with(index, self.emit.dequantize(self.views[value]))
        for index, value in enumerate(node.inputs):
            if node.op_type in WITH_OPERAND:
                break  # the site of its constant is that of another node, which computes with integers
            if value is not None and value.const_value is not None and str(value.name) in self.plan.constants():
                node.replace_input_with(index, self._weight(node, value)[0])
        bias = self.plan.biases.get(str(node.name))
        if bias is not None:
            set_bias(node, self.emit.constant(np.asarray(bias, np.float32), f"{node.name}_bias"))

    def _weight(self, node: ir.Node, value: ir.Value) -> tuple[ir.Value, NDArray[np.float32]]:
        """A weight in float, as a DequantizeLinear or Cast of what is stored, and its scales (O,) or ()."""
        spec = self.plan.sites[str(value.name)].spec
        assert spec is not None  # constants() has those with a spec
        hint = str(value.name)
        if spec.dtype.kind == "float" and spec.dtype.bits == 16:
            half = np.asarray(self.hub.constant(value), np.float16)
            return self.emit.to_float(self.emit.constant(half, hint)), np.ones((), np.float32)
        if not spec.dtype.is_integer or spec.codebook is not None:
            kind = spec.codebook or str(spec.dtype)
            raise PlanError(f"weight {value.name} is stored as {kind}, which has no plain QuantizeLinear form")
        integers, scale = integers_of(self.emit, self.plan, node, value)
        zero = require(self.plan.sites[str(value.name)]).zero_point
        if np.any(zero):
            raise PlanError(f"weight {value.name} has zero points; set symmetric: true for this target")
        axes = [axis for axis, size in enumerate(scale.shape) if size > 1]
        if len(axes) > 1 or any(scale.shape[a] != integers.shape[a] for a in axes):  # a single output has blocks too
            return self._blocks(_narrow(integers, spec.dtype), scale, spec.block_shape, hint), scale
        axis = axes[0] if axes else 0
        held = self.emit.constant(_narrow(integers, spec.dtype), hint)
        domain = CONTRIB if spec.dtype.bits <= 4 and self.hub.opset < OPSET_4_BIT else ""
        return self.emit.dequantize_constant(held, scale, axis, zero_point=False, domain=domain), scale

    def _blocks(
        self, integers: NDArray[np.integer], scale: NDArray[np.float32], block: tuple[int, ...], hint: str
    ) -> ir.Value:
        """DequantizeLinear of a weight with a scale for each block along one axis, as in opset 21, whatever the graph's."""
        axis = next(a for a, size in enumerate(block) if size not in (1, -1))
        inputs: list[ir.Value | None] = [self.emit.constant(integers, hint), self.emit.constant(scale, "scale")]
        return self.emit.node(
            "DequantizeLinear", inputs, "dq", dtype=ir.DataType.FLOAT, axis=axis, block_size=block[axis]
        )[0]

    # --- nodes between integers -------------------------------------------------------------------------------------

    def _integer(self, node: ir.Node, plan: NodePlan, names: Mapping[str, ir.Node]) -> None:
        factor = rescale_of(self.hub, node)
        if plan.form == "passthrough" and factor is not None:
            first = self._view(data_inputs(node)[0])
            self.views[node.outputs[0]] = View(first.value, first.dtype, first.scale * factor, first.zero_point, True)
            return
        first, activations = self._view(data_inputs(node)[0]), data_inputs(node)
        last = self._last(node)  # before its bias is no constant any more
        if plan.weight is not None:
            self._weighted(node, first)  # first: balance factors are found by the names of activations
        for index, value in enumerate(node.inputs):
            if value is not None and value in activations:
                node.replace_input_with(index, self.emit.dequantize(self._view(value)))
        operand = constant_operand(self.hub, node) if node.op_type in WITH_OPERAND else None
        if operand is not None and plan.form == "integer":
            self._constant_operand(node, operand[0])
        if plan.form == "passthrough":
            for output in node.outputs:
                self._requantize(output, first)
            return
        made = names[plan.absorbs].outputs[0] if plan.absorbs else node.outputs[0]
        site = self.plan.sites.get(str(made.name))
        if site is not None and site.readers is None:
            source = last if plan.absorbs and _saturates(site, made) else made
            self.views[made] = self.emit.quantize(source, site, made=True)

    def _view(self, value: ir.Value) -> View:
        """The integers of a value; a float value is quantized here."""
        if value not in self.views:
            site = self.plan.sites.get(str(value.name))
            if site is None:
                raise PlanError(f"the plan has no site for {value.name}, which an integer node reads")
            self.views[value] = self.emit.quantize(value, site, made=False)
            maker = self.views[value].value.producer()
            if maker is not None:
                maker.metadata_props[ROUNDS] = str(value.name)
        return self.views[value]

    def _requantize(self, output: ir.Value, view: View) -> None:
        """What a node makes that moves integers, at the scale of what it moves."""
        inputs: list[ir.Value | None] = [
            output,
            self.emit.scalar(view.scale),
            self.emit.constant(np.array(view.zero_point, view.dtype.storage), "zp"),
        ]
        (integers,) = self.emit.node(
            "QuantizeLinear", inputs, "q", dtype=view.value.dtype, domain=self.emit.domain_of(view.dtype)
        )
        self.views[output] = View(integers, view.dtype, view.scale, view.zero_point, True)

    def _weighted(self, node: ir.Node, view: View) -> None:
        weight = weight_of(node)
        assert weight is not None  # it has one in the plan
        bias = self._bias(node)  # before its weight is no constant any more
        real, scale = self._weight(node, weight.value)
        node.replace_input_with(weight.index, real)
        if bias is not None:
            set_bias(node, integer_bias(self.emit, bias, view.scale, scale.reshape(-1)))

    def _bias(self, node: ir.Node) -> NDArray[np.float32] | None:
        """The bias (O,) of a node with a weight, divided as its output is; None where it has none."""
        given = self.plan.biases.get(str(node.name))
        if given is not None:
            return np.asarray(given, np.float32)
        has = bias_add(node) is not None if node.op_type == "MatMul" else len(node.inputs) > 2
        bias = node_bias(self.hub, node) if has else None
        return None if bias is None else np.asarray(balanced_bias(self.plan, node, bias), np.float32)

    def _constant_operand(self, node: ir.Node, index: int) -> None:
        from fewbit.core.affine import quantize

        value = node.inputs[index]
        assert value is not None  # constant_operand found it
        params = require(self.plan.sites[str(value.name)])
        array = self.hub.constant(value)
        assert array is not None
        integers = self.emit.constant(quantize(array, params), str(value.name))
        view = View(integers, params.spec.dtype, float(params.scale), int(params.zero_point), True)
        node.replace_input_with(index, self.emit.dequantize(view))

    def _last(self, node: ir.Node) -> ir.Value:
        """The value that is quantized where the saturation of the integers is the activation function that a node absorbs: a
        bias is still added."""
        add = bias_add(node) if node.op_type == "MatMul" else None
        return node.outputs[0] if add is None else add.outputs[0]

    def _finish(self) -> None:
        """Readers inside subgraphs and graph outputs get real numbers; then what nobody reads goes."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        graph = self.emit.graph
        for value, view in list(self.views.items()):
            if not view.made:
                continue
            for reader, index in inner_readers(graph, value):
                reader.replace_input_with(index, self.emit.dequantize(view))
        for index, output in enumerate(list(graph.outputs)):
            made = self.views.get(output)
            if made is not None and made.made:
                (real,) = self.emit.node("Identity", [self.emit.dequantize(made)], "output", dtype=ir.DataType.FLOAT)
                real.shape, real.type = output.shape, output.type
                graph.outputs[index] = real
                name, output.name = output.name, self.emit.name("old")
                real.name = name
        self._name_integers()
        graph.sort()
        RemoveUnusedNodesPass()(self.hub.model)

    def _name_integers(self) -> None:
        """Integers are called as the values that they stand for: in a file that keeps names `compare` finds them."""
        for value, view in self.views.items():
            maker = view.value.producer()
            if maker is None or maker.op_type != "QuantizeLinear" or not view.made or value.is_graph_output():
                continue
            if maker.inputs[0] is not None and value.producer() is not None:
                name, value.name = value.name, self.emit.name("real")
                view.value.name = name


def _narrow(integers: NDArray[np.integer], dtype: DType) -> NDArray[Any]:
    """Integers of 4 bits in the dtype that has 4."""
    return integers.astype(ml_dtypes.int4) if dtype == INT4 else integers


def _saturates(site: SitePlan, made: ir.Value) -> bool:
    """Whether the integers of a site end where the activation function that makes its value does."""
    activation = made.producer()
    bounds = None if activation is None else clip_bounds(activation)
    if bounds is None:
        return True  # a bias is the last that was absorbed
    params = require(site)
    ends = [(end - int(params.zero_point)) * float(params.scale) for end in (params.spec.qmin, params.spec.qmax)]
    slack = float(params.scale) / 2
    return bounds[0] - slack <= ends[0] and ends[1] <= bounds[1] + slack
