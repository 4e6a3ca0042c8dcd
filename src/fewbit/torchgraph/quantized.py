"""A plan as a torch module: the hub with every site fake-quantized as planned, and what was learned back in a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbit.core.quant import dequantize
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.balanced import balanced, balanced_bias, balanced_weight, integer_weight, output_balance
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import integer_source
from fewbit.plan.written import with_biases
from fewbit.stages.scale_weights import stores_float16
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.module import GraphModule, to_torch

# Of a step. Latent weights start at most so far from the integers of the plan: those that were not rounded to the nearest
# would otherwise start where the first updates move them back (the loss of ResNet-20 at 2 bits rose several times over in
# 15 updates at 0.49).
_WITHIN = 0.25
_BIAS_FORMS = ("integer", "dynamic", "weight_only", "storage")  # whose biases the lowering takes from the plan
_INT32 = 2.0**31 - 1


class Scaled(nn.Module):
    """Fake quantization of a tensor in balanced units: multiplied by factors before, divided by them after."""

    factors: Tensor | None

    def __init__(self, quantize: FakeQuantize, factors: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.quantize = quantize
        self.register_buffer("factors", None if factors is None else torch.from_numpy(np.array(factors, np.float32)))

    def _relative(self, x: Tensor) -> Tensor:
        """A weight follows its step, so that its integers stay: the gradient of the step is then that of what the runtime
        computes. (LSQ's supposes that integers move when the step does; latent weights that start near theirs do not.)"""
        return x if self.quantize.shape is None else x * self.quantize.expand(self.quantize.step)

    def forward(self, x: Tensor) -> Tensor:
        x = self._relative(x)
        if self.factors is None:
            return self.quantize(x)
        return self.quantize(x * self.factors) / self.factors

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        x = self._relative(x)
        return self.quantize.integers(x if self.factors is None else x * self.factors)


class RoundedBias(nn.Module):
    """A bias as the accumulator of an integer kernel holds it: int32, at the scale of input times weight; gradients pass."""

    out: Tensor | None

    def __init__(self, edge: FakeQuantize, weight: FakeQuantize, out: NDArray[np.float32] | None) -> None:
        super().__init__()
        self._scales = edge, weight  # in a tuple: they are modules of the graph already
        self.register_buffer("out", None if out is None else torch.from_numpy(np.array(out, np.float32)))

    def forward(self, bias: Tensor) -> Tensor:
        with torch.no_grad():
            edge, weight = self._scales
            scale = (edge.scale() * weight.scale().reshape(-1)).double()
            real = bias.double() if self.out is None else bias.double() / self.out
            rounded = (real / scale).round_().clamp_(-_INT32, _INT32) * scale
            error = (rounded if self.out is None else rounded * self.out).to(bias.dtype) - bias
        return bias + error


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A node whose weight is learned: the names of its weight and bias in the graph, and the site's quantization. Layers
    that share a weight share its quantization."""

    node: ir.Node
    weight: Weight
    quantize: Scaled
    bias: str | None


class QuantizedGraph(nn.Module):
    """The function of a hub with a plan's quantization simulated, differentiable; inputs and outputs are the hub's.

    graph: the executor. Its parameters are the weights and biases in the units of the float model; the latent weights begin
        where they round to the integers of the plan. What the plan cannot carry back (normalizations, nodes in float) is
        frozen, and so are weights in a codebook or as 8- or 16-bit floats, which have no step to learn: they are what the
        plan makes of them. Activations whose ranges the runtime finds (`dynamic`) pass unquantized.
    edges: name → its fake quantization; the edges of one group share one `FakeQuantize`.
    layers: node → what is learned there.

    Args:
        learn_offsets: whether zero points of activations are learned too.
    """

    def __init__(self, hub: Hub, plan: Plan, *, learn_offsets: bool = True) -> None:
        super().__init__()
        self.hub, self.source = hub, plan
        written, biases = with_biases(hub, plan)
        self.graph: GraphModule = to_torch(written)
        self.graph.requires_grad_(False)
        self.edges: dict[str, Scaled] = {}
        self.layers: dict[str, Layer] = {}
        self._biases = {name: self.graph.weights()[name].detach().numpy().copy() for name in biases.values()}
        shared: dict[str, FakeQuantize] = {}
        for name, edge in plan.edges().items():
            if edge.params is not None:
                self._add_edge(name, edge, shared, learn_offsets)
        weights: dict[str, Scaled] = {}
        for node in hub.nodes():
            weight = weight_of(node)
            site = None if weight is None else plan.constants().get(weight.name)
            if weight is not None and site is not None and _learned(site):
                self._add_weight(node, weight, site, biases.get(str(node.name)), weights)
        for name, held in plan.constants().items():
            if name not in weights:
                self._fix(name, held)

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the quantized model, in the order of the hub's."""
        return self.graph(*inputs, **named)  # type: ignore[no-any-return]

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """Some values of the quantized model from others; see `GraphModule.run`."""
        return self.graph.run(feeds, outputs)  # type: ignore[return-value]

    def plan(self) -> Plan:
        """The plan with the scales, zero points, integers and biases that were learned."""
        sites: dict[str, SitePlan] = {}
        biases: dict[str, NDArray[np.float32]] = {}
        for name, edge in self.edges.items():
            sites[name] = replace(self.source.sites[name], params=edge.quantize.params())
        weights = self.graph.weights()
        for layer in self.layers.values():
            name = layer.weight.name
            site = self.source.sites[name]
            assert site.spec is not None  # _learned asked
            integers = layer.quantize.integers(weights[name].detach()).cpu().numpy().astype(site.spec.dtype.storage)
            sites[name] = replace(site, params=layer.quantize.quantize.params(), integers=integers)
            bias = None if layer.bias is None else weights[layer.bias].detach().cpu().numpy()
            if bias is not None and not np.array_equal(bias, self._biases[str(layer.bias)]):
                flat = balanced_bias(self.source, layer.node, bias.reshape(-1))
                biases[str(layer.node.name)] = np.asarray(flat, np.float32)
        plan = self.source.with_sites(sites)
        return replace(plan, biases={**plan.biases, **biases})

    def _add_edge(self, name: str, site: SitePlan, shared: dict[str, FakeQuantize], learn_offsets: bool) -> None:
        assert site.params is not None
        quantize = shared.get(site.group or "")
        if quantize is None:
            elements = [n for n in (self.hub.shape(self.hub.value(name)) or ())[1:] if isinstance(n, int)]
            quantize = FakeQuantize(site.params, elements=int(np.prod(elements)) or 1, learn_offset=learn_offsets)
            if site.group is not None:
                shared[site.group] = quantize
        factors = None
        if site.balance is not None:
            value, axis = self.hub.value(name), 1 if site.channel_axis is None else site.channel_axis
            rank = len(self.hub.shape(value) or ())
            factors = 1.0 / site.balance.reshape([-1 if a == axis % rank else 1 for a in range(rank)])
        self.edges[name] = Scaled(quantize, factors)
        self.graph.hook(name, self.edges[name], site.readers)

    def _add_weight(
        self, node: ir.Node, weight: Weight, site: SitePlan, bias: str | None, added: dict[str, Scaled]
    ) -> None:
        """Hook a weight that is learned; a bias of the node is learned with it where the lowering takes it."""
        assert site.params is not None
        form = self.source.nodes[str(node.name)].form
        if weight.name not in added:
            real = np.asarray(self.hub.constant(weight.value), np.float32)
            factors = balanced(self.source, node, weight, np.ones_like(real))
            nearest = dequantize(integer_weight(self.hub, self.source, node, weight.value), site.params)
            # the scales of a weight that an integer kernel reads are float32 in the file
            half = form != "integer" and stores_float16(site.params.spec) and _is_half(site.params.scale)
            quantize = FakeQuantize(site.params, real.shape, half_scales=half)
            with torch.no_grad():
                step = np.broadcast_to(quantize.expand(quantize.scale()).numpy(), real.shape)
                off = balanced_weight(self.hub, self.source, node, weight.value) - nearest
                latent = (nearest + np.clip(off, -_WITHIN * step, _WITHIN * step)) / factors
                self.graph.weights()[weight.name].copy_(torch.from_numpy(np.ascontiguousarray(latent)))
            added[weight.name] = Scaled(quantize, factors if (factors != 1.0).any() else None)
        scaled = added[weight.name]
        self.graph.hook(weight.name, scaled, [str(node.name)])
        self.graph.weights()[weight.name].requires_grad_(True)
        if bias is not None and form in _BIAS_FORMS:
            self.graph.weights()[bias].requires_grad_(True)
            edge = integer_source(self.source, node.inputs[0]) if form == "integer" else None  # type: ignore[arg-type]
            if edge is not None and node.op_type in ("Conv", "Gemm") and edge.site.name in self.edges:
                inputs = self.edges[edge.site.name].quantize
                if inputs.spec.dtype.bits <= 8:
                    out = output_balance(self.source, node)
                    self.graph.hook(bias, RoundedBias(inputs, scaled.quantize, out))
        else:
            bias = None
        self.layers[str(node.name)] = Layer(node, weight, scaled, bias)

    def _fix(self, name: str, site: SitePlan) -> None:
        """A constant that is not learned becomes what its plan makes of it."""
        value = self.hub.value(name)
        node = next(n for n in value.consumers() if str(n.name) in self.source.nodes)
        real = np.asarray(self.hub.constant(value), np.float32)
        if site.params is not None:
            fixed = dequantize(integer_weight(self.hub, self.source, node, value), site.params)
            weight = weight_of(node)
            if weight is not None and weight.value is value:
                fixed = fixed / balanced(self.source, node, weight, np.ones_like(real))
        else:
            assert site.spec is not None
            fixed = real.astype(site.spec.dtype.storage).astype(np.float32)
        held = self.graph.constant(name)
        if isinstance(held, Tensor):
            held.data.copy_(torch.from_numpy(np.ascontiguousarray(fixed)).reshape(held.shape))


def _learned(site: SitePlan) -> bool:
    """Whether a weight has affine integers with a step."""
    return site.params is not None and site.params.spec.codebook is None and site.params.spec.dtype.is_integer


def _is_half(scale: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(scale.astype(np.float16).astype(np.float32), scale))
