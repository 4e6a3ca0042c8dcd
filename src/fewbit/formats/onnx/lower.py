"""Lower: a plan becomes an ONNX graph with QuantizeLinear and DequantizeLinear nodes.

The float graph is rewritten node by node in topological order. For every value that is quantized, `views` holds the
integers that stand for it; a reader asks for the integers or for their dequantized form, each made once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fewbit.errors import PlanError
from fewbit.formats.onnx.emit import Emitter, View, check_plan_of, inner_readers, ir_type, require
from fewbit.formats.onnx.nbits import gather_nbits, matmul_nbits
from fewbit.formats.onnx.weights import (
    dequantized_weight,
    dynamic_lstm,
    dynamic_matmul,
    gather_rows,
    gathers_rows,
    integer_bias,
    stored_weight,
)
from fewbit.graph.facts import bias_add, bias_index, set_bias
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import balanced_bias
from fewbit.plan.plan import NodePlan, Plan
from fewbit.plan.rewrites import rewritten
from fewbit.plan.select import MIN_STORED_ELEMENTS
from fewbit.plan.wiring import WITH_OPERAND, constant_operand, data_inputs, made_site, rescale_of


def lower(hub: Hub, plan: Plan) -> ir.Model:
    """The quantized model; the hub is not changed.

    Raises:
        PlanError: the plan is of another graph, or was never calibrated.
    """
    return lower_with_views(hub, plan)[0]


def lower_with_views(hub: Hub, plan: Plan) -> tuple[ir.Model, dict[str, str]]:
    """The quantized model, and for each edge of the hub that is there as integers the name of the value that holds them."""
    check_plan_of(hub, plan)
    lowering = _Lowering(rewritten(hub, plan.rewrites).clone(), plan)
    model = lowering.run()
    made = {output for node in model.graph for output in node.outputs}
    return model, {str(v.name): str(view.value.name) for v, view in lowering.views.items() if view.value in made}


class _Lowering:
    def __init__(self, hub: Hub, plan: Plan) -> None:
        self.hub, self.plan, self.emit = hub, plan, Emitter(hub)
        self.views: dict[ir.Value, View] = {}
        self.dynamic: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self.stored: dict[ir.Value, ir.Value] = {}

    def run(self) -> ir.Model:
        nodes = self.hub.nodes()
        names = {node.name: node for node in nodes}
        for node in nodes:
            plan = self.plan.nodes.get(str(node.name))
            if plan is None:
                raise PlanError(f"the plan has no entry for node {node.name}; make the plan again from this model")
            self._lower(node, plan, names)
        self._finish()
        return self.hub.model

    def _lower(self, node: ir.Node, plan: NodePlan, names: dict[str | None, ir.Node]) -> None:
        if plan.form == "absorbed":
            return
        if plan.form == "passthrough":
            self._move(node)
            return
        if plan.form == "integer":
            self._integer(node, plan, names)
            return
        self._read_float(node)
        if plan.form in ("dynamic", "weight_only", "storage") and str(node.name) in self.plan.biases:
            self._correct_bias(node, self.plan.biases[str(node.name)])
        if plan.form == "dynamic" and node.op_type == "LSTM":
            self._replace(node, dynamic_lstm(self.emit, self.plan, node))
        elif plan.form == "dynamic":
            self._replace(node, (dynamic_matmul(self.emit, self.plan, node, self.dynamic),))
        elif plan.form == "weight_only":
            new = gather_nbits if node.op_type == "Gather" else matmul_nbits
            self._replace(node, (new(self.emit, self.plan, node),))
        elif plan.form == "storage" and node.op_type == "Gather" and self._gathers_rows(node):
            self._replace(node, (gather_rows(self.emit, self.plan, node),))
        else:
            for index, value in enumerate(node.inputs):
                if value is not None and value.name in self.plan.sites and value.const_value is not None:
                    # The site of such an operand is that of another node, of integers. A long one is stored once for both:
                    # tables of positions would fill a third of a small model.
                    if node.op_type in WITH_OPERAND and value.const_value.size < MIN_STORED_ELEMENTS:
                        continue
                    if value not in self.stored:
                        self.stored[value] = stored_weight(self.emit, self.plan, node, value)
                    node.replace_input_with(index, self.stored[value])

    def _correct_bias(self, node: ir.Node, bias: np.ndarray) -> None:
        """Give a node that computes in float the bias that the plan has for it."""
        set_bias(node, self.emit.constant(bias, f"{node.name}_bias"))

    def _gathers_rows(self, node: ir.Node) -> bool:
        table = self.plan.sites.get(str(node.inputs[0].name))  # type: ignore[union-attr]
        return table is not None and gathers_rows(self.emit, table)

    def _view(self, value: ir.Value) -> View:
        """The integers of a value; a float value is quantized here."""
        if value not in self.views:
            site = self.plan.sites.get(str(value.name))
            if site is None:
                raise PlanError(f"the plan has no site for {value.name}, which an integer node reads")
            self.views[value] = self.emit.quantize(value, site, made=False)
        return self.views[value]

    def _real(self, value: ir.Value) -> ir.Value:
        return self.emit.dequantize(self._view(value))

    def _read_float(self, node: ir.Node) -> None:
        """A float reader of integers reads their dequantized form."""
        for index, value in enumerate(node.inputs):
            if value is not None and value in self.views and self.views[value].made:
                node.replace_input_with(index, self.emit.dequantize(self.views[value]))

    def _replace(self, node: ir.Node, outputs: tuple[ir.Value, ...]) -> None:
        """New values take the place, and the names, of a node's outputs."""
        for old, new in zip(node.outputs, outputs, strict=True):
            self._take_over(old, new)

    def _take_over(self, old: ir.Value, new: ir.Value) -> None:
        for reader, index in list(old.uses()):
            reader.replace_input_with(index, new)
        self._become_output(old, new)
        if old in self.views:
            self.views[new] = self.views.pop(old)
        if old in self.dynamic:
            self.dynamic[new] = self.dynamic.pop(old)

    def _become_output(self, old: ir.Value, new: ir.Value) -> None:
        """A new value takes the name of an old one, and its place among the graph outputs."""
        new.type, new.shape = old.type, old.shape
        if old.is_graph_output():
            for index, output in enumerate(self.emit.graph.outputs):
                if output is old:
                    self.emit.graph.outputs[index] = new
        name, old.name = old.name, self.emit.name("old")
        new.name = name

    # --- nodes that move integers -----------------------------------------------------------------------------------

    def _move(self, node: ir.Node) -> None:
        first = self._view(data_inputs(node)[0])
        factor = rescale_of(self.hub, node)
        if factor is not None:
            self.views[node.outputs[0]] = View(first.value, first.dtype, first.scale * factor, first.zero_point, True)
            return
        if node.op_type in ("Relu", "Clip"):
            self.views[node.outputs[0]] = self._clip(node, first)
            return
        for index, value in enumerate(node.inputs):
            if value in data_inputs(node):
                assert value is not None
                node.replace_input_with(index, self._view(value).value)
        if node.op_type == "Pad":
            zero = self.emit.constant(np.array(first.zero_point, first.dtype.storage), "zp")
            if len(node.inputs) < 3:
                node.resize_inputs(3)
            node.replace_input_with(2, zero)
        for output in node.outputs:
            output.type = ir.TensorType(ir_type(first.dtype))  # a new type: clones share the old one
            self.views[output] = View(output, first.dtype, first.scale, first.zero_point, True)

    def _clip(self, node: ir.Node, view: View) -> View:
        """Relu or Clip on the integers themselves."""
        low, high = (0.0, np.inf) if node.op_type == "Relu" else self._clip_bounds(node)
        info = np.iinfo(view.dtype.storage)
        bounds = [
            np.clip(np.rint(np.clip(x / view.scale, -1e6, 1e6)) + view.zero_point, info.min, info.max)
            for x in (low, high)
        ]
        constants: list[ir.Value | None] = [
            self.emit.constant(np.array(b, view.dtype.storage), "bound") for b in bounds
        ]
        (value,) = self.emit.node("Clip", [view.value, *constants], "clip", dtype=view.value.dtype)
        return View(value, view.dtype, view.scale, view.zero_point, True)

    def _clip_bounds(self, node: ir.Node) -> tuple[float, float]:
        bounds = [-np.inf, np.inf]
        for index, value in enumerate(node.inputs[1:3]):
            array = self.hub.constant(value) if value is not None else None
            if array is not None:
                bounds[index] = float(array.reshape(-1)[0])
        return bounds[0], bounds[1]

    # --- integer kernels --------------------------------------------------------------------------------------------

    def _integer(self, node: ir.Node, plan: NodePlan, names: dict[str | None, ir.Node]) -> None:
        special: dict[str, Callable[[ir.Node], ir.Value]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "HardSwish": self._hard_swish,
            "HardSigmoid": self._hard_sigmoid,
        }
        rescale = 1.0 / node.attributes.get_float("alpha", 0.2) if node.op_type == "HardSigmoid" else 1.0
        if self._is_wide_product(node):
            output = self._in_float(node)
        elif node.op_type in special:
            output = special[node.op_type](node)
        else:
            for index, value in enumerate(node.inputs):
                if value in data_inputs(node):
                    assert value is not None
                    node.replace_input_with(index, self._real(value))
            operand = constant_operand(self.hub, node) if node.op_type in ("Add", "Mul") else None
            if operand is not None:
                node.replace_input_with(operand[0], self._constant_operand(node, operand[0]))
            output = node.outputs[0]
        target = names[plan.absorbs].outputs[0] if plan.absorbs else node.outputs[0]
        site = self.plan.sites.get(str(target.name))
        if site is not None and site.readers is None:
            scale = float(require(site).scale) * rescale
            self.views[target] = self.emit.quantize(output, site, made=True, scale=scale)
        elif output is not node.outputs[0]:
            self._take_over(node.outputs[0], output)

    def _constant_operand(self, node: ir.Node, index: int) -> ir.Value:
        from fewbit.core.affine import quantize

        value = node.inputs[index]
        assert value is not None
        params = require(self.plan.sites[str(value.name)])
        array = self.hub.constant(value)
        assert array is not None
        integers = self.emit.constant(quantize(array, params), str(value.name))
        view = View(integers, params.spec.dtype, float(params.scale), int(params.zero_point), True)
        return self.emit.dequantize(view)

    def _bias(self, node: ir.Node) -> np.ndarray | None:
        if str(node.name) in self.plan.biases:
            return np.asarray(self.plan.biases[str(node.name)], np.float32)
        value = node.inputs[2] if len(node.inputs) > 2 else None
        bias = None if value is None else self.hub.constant(value)
        return None if bias is None else balanced_bias(self.plan, node, np.asarray(bias, np.float32))

    def _is_wide_product(self, node: ir.Node) -> bool:
        """A MatMul or Gemm that reads more than 8 bits and writes float."""
        if node.op_type not in ("MatMul", "Gemm") or made_site(self.plan, node) is not None:
            return False
        return self._view(data_inputs(node)[0]).dtype.bits > 8

    def _in_float(self, node: ir.Node) -> ir.Value:
        """A product of more than 8 bits, for which there is no integer kernel: its weights expand at load. With a
        DequantizeLinear the runtime would make MatMulNBits of it, which rounds the activations to 8 bits. (Where the output
        is quantized too the DequantizeLinear stays: without it the runtime would quantize the weights once more.)"""
        node.replace_input_with(0, self._real(data_inputs(node)[0]))
        weight = weight_of(node)
        assert weight is not None
        node.replace_input_with(weight.index, stored_weight(self.emit, self.plan, node, weight.value))
        bias = self.plan.biases.get(str(node.name)) if node.op_type == "MatMul" else self._bias(node)
        if bias is not None:
            self._correct_bias(node, bias)
        return node.outputs[0]

    def _conv(self, node: ir.Node) -> ir.Value:
        activation = node.inputs[0]
        assert activation is not None
        view = self._view(activation)
        weight, scale = dequantized_weight(self.emit, self.plan, node, transpose=False, zero_point=False)
        node.replace_input_with(0, self.emit.dequantize(view))
        node.replace_input_with(1, weight)
        bias = self._bias(node)
        if bias is not None:
            node.resize_inputs(3)
            node.replace_input_with(2, integer_bias(self.emit, bias, view.scale, scale))
        return node.outputs[0]

    def _gemm(self, node: ir.Node) -> ir.Value:
        """A fresh Gemm: the kernel wants the weight as (K, N), with its zero point written out."""
        activation = node.inputs[0]
        assert activation is not None
        view = self._view(activation)
        transpose = bool(node.attributes.get_int("transB", 0))
        return self._make_gemm(node, view, transpose, self._bias(node))

    def _make_gemm(self, node: ir.Node, view: View, transpose: bool, bias: np.ndarray | None) -> ir.Value:
        weight, scale = dequantized_weight(self.emit, self.plan, node, transpose=transpose, zero_point=True)
        inputs: list[ir.Value | None] = [self.emit.dequantize(view), weight]
        if bias is not None:
            outputs = weight_of(node)
            assert outputs is not None
            width = outputs.shape[outputs.out_axis]
            flat = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (width,)))
            inputs.append(integer_bias(self.emit, flat, view.scale, scale))
        return self.emit.node("Gemm", inputs, "gemm", dtype=ir.DataType.FLOAT)[0]

    def _matmul(self, node: ir.Node) -> ir.Value:
        """MatMul with a float output. The bias that follows must not be fused into a float Gemm by the runtime: for two
        axes it becomes the bias of an integer Gemm, for more it gets as many axes as the output."""
        activation = node.inputs[0]
        assert activation is not None
        view = self._view(activation)
        add = bias_add(node)
        rank = len(activation.shape) if activation.shape is not None else None
        if add is not None and rank is not None:
            index = bias_index(add, node)
            value = add.inputs[index]
            bias = self.hub.constant(value) if value is not None else None
            if bias is not None and rank > 2:
                bias = self.plan.biases.get(str(node.name), bias)
                shaped = np.asarray(bias, np.float32).reshape((1,) * (rank - 1) + (-1,))
                add.replace_input_with(index, self.emit.constant(shaped, str(value.name) if value else "bias"))
        weight, _ = dequantized_weight(self.emit, self.plan, node, transpose=False, zero_point=False)
        node.replace_input_with(0, self.emit.dequantize(view))
        node.replace_input_with(1, weight)
        return node.outputs[0]

    def _saturating_add(self, view: View, offset: float) -> ir.Value:
        """x + offset, for a quantizer whose saturation clips it."""
        integers = self.emit.constant(np.array(255, np.uint8), "offset")
        constant = self.emit.dequantize(View(integers, view.dtype, offset / 255, 0, True))
        return self.emit.node("Add", [self.emit.dequantize(view), constant], "gate", dtype=ir.DataType.FLOAT)[0]

    def _hard_sigmoid(self, node: ir.Node) -> ir.Value:
        """clip(αx + β, 0, 1) = α · clip(x + β/α, 0, 1/α): an integer Add whose saturation is the clipping."""
        activation = node.inputs[0]
        assert activation is not None
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return self._saturating_add(self._view(activation), beta / alpha)

    def _hard_swish(self, node: ir.Node) -> ir.Value:
        """x · clip(x + 3, 0, 6) / 6, with the division in the scale at which the gate is read."""
        activation = node.inputs[0]
        assert activation is not None
        view = self._view(activation)
        total = self._saturating_add(view, 3.0)
        zero = self.emit.constant(np.array(0, np.uint8), "zp")
        (gate,) = self.emit.node(
            "QuantizeLinear", [total, self.emit.scalar(6.0 / 255), zero], "gate", dtype=ir.DataType.UINT8
        )
        real = self.emit.dequantize(View(gate, view.dtype, 1.0 / 255, 0, True))
        return self.emit.node("Mul", [self.emit.dequantize(view), real], "swish", dtype=ir.DataType.FLOAT)[0]

    def _finish(self) -> None:
        """Readers inside subgraphs and graph outputs get real numbers; then what nobody reads goes."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        graph = self.emit.graph
        for value, view in list(self.views.items()):
            if not view.made:
                continue
            for reader, index in inner_readers(graph, value):
                reader.replace_input_with(index, self.emit.dequantize(view))
        for output in list(graph.outputs):
            made = self.views.get(output)
            if made is not None and made.made:
                real = self.emit.dequantize(made)
                if real.is_graph_output():
                    (real,) = self.emit.node("Identity", [real], "output", dtype=ir.DataType.FLOAT)
                self._become_output(output, real)
                real.type = ir.TensorType(ir.DataType.FLOAT)  # a node that moves integers gave its output their type
        graph.sort()
        RemoveUnusedNodesPass()(self.hub.model)
