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
from fewbit.plan.balanced import balanced_bias, balanced_weight, effective_weight, integer_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import data_inputs, made_site, scaled_source
from fewbit.plan.written import with_biases
from fewbit.stages.scale_weights import stores_float16
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.module import GraphModule, to_torch

_WITHIN = 0.49  # of a step: latent weights start so near to the integers of the plan that they round to them


class Scaled(nn.Module):
    """Fake quantization of a tensor in balanced units: multiplied by factors before, divided by them after.

    sums: of a tensor that an integer kernel makes; in evaluation mode it is then rounded as that kernel does, number for
        number.
    """

    factors: Tensor | None

    def __init__(self, quantize: FakeQuantize, factors: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.quantize = quantize
        self.sums: Sums | None = None
        self.register_buffer("factors", None if factors is None else torch.from_numpy(np.array(factors, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        balanced = x if self.factors is None else x * self.factors
        y = self.quantize(balanced)
        if self.sums is not None and not self.training and self.quantize.enabled:
            y = y + (self.sums.rounded(balanced, self.quantize) - y).detach()
        return y if self.factors is None else y / self.factors

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        return self.quantize.integers(x if self.factors is None else x * self.factors)

    def real(self, integers: Tensor) -> Tensor:
        """The values that integers stand for, float32, without gradients."""
        with torch.no_grad():
            scale, zero = self.quantize._expand(self.quantize.scale()), self.quantize._expand(self.quantize.zeros())
            real = (integers.to(torch.float32) - zero) * scale
            return real if self.factors is None else real / self.factors


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of products of integers in a kernel of ONNX Runtime (QLinearConv, QGemm): their step is that of the input times
    that of the weights, one for each output channel.

    source: quantizes the input, whose scale is `factor` times that. weight: quantizes the weight. axis: of the output
        channels.
    """

    source: FakeQuantize
    factor: float
    weight: FakeQuantize
    axis: int

    def step(self) -> Tensor:
        return (self.source.scale().double() * self.factor).float() * self.weight.scale().reshape(-1)

    def rounded(self, x: Tensor, target: FakeQuantize) -> Tensor:
        """The values of sums, given as real numbers, as the kernel rounds them for `target`, without gradients.

        MLAS multiplies a sum, as float32, by step / scale of the output, where `FakeQuantize` divides a real number: that
        sends one value in 10⁵ to the next integer. The sums are found again by rounding, which float32 allows up to 2²².
        """
        with torch.no_grad():
            step, scale, zero = self.step(), target.scale(), target.zeros()
            shape = [-1 if axis == self.axis % x.dim() else 1 for axis in range(x.dim())]
            sums, factor = (x / step.reshape(shape)).round_(), (step / scale).reshape(shape)
            return sums.mul_(factor).round_().clamp_(target.spec.qmin - zero, target.spec.qmax - zero).mul_(scale)


@dataclass(frozen=True, eq=False)
class SumBias:
    """Rounds a bias to the integers of the sums that it is added to; the gradient passes.

    made: of the output, whose factors the bias has too; None where it has none.
    """

    sums: Sums
    made: Scaled | None

    def __call__(self, bias: Tensor) -> Tensor:
        if not self.sums.source.enabled:
            return bias
        with torch.no_grad():
            factors = None if self.made is None or self.made.factors is None else self.made.factors.reshape(-1)
            balanced = bias if factors is None else bias / factors.reciprocal()
            # In float64, as the integers of the exported bias are made: large ones lie between two steps of float32.
            step = self.sums.step().double()
            rounded = ((balanced.double() / step).round_() * step).to(bias.dtype)
            error = (rounded if factors is None else rounded * factors.reciprocal()) - bias
        return bias + error


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A node whose weight is learned: the names of its weight and bias in the graph, and the site's quantization."""

    node: ir.Node
    weight: Weight
    quantize: Scaled
    bias: str | None


class QuantizedGraph(nn.Module):
    """The function of a hub with a plan's quantization simulated, differentiable; inputs and outputs are the hub's.

    graph: the executor. Its parameters are the weights and biases in the units of the float model; the latent weights begin
        where they round to the integers of the plan.
    edges: name → its `FakeQuantize`; the edges of one group share one. layers: node → what is learned there.

    Weights in a codebook or as 8- or 16-bit floats have no step to learn: they are what their plan makes of them, and fixed.
    """

    def __init__(self, hub: Hub, plan: Plan, *, learn_offsets: bool = True) -> None:
        super().__init__()
        self.hub, self.source = hub, plan
        written, biases = with_biases(hub, plan)
        self.graph: GraphModule = to_torch(written)
        self.edges: dict[str, FakeQuantize] = {}
        self._scaled: dict[str, Scaled] = {}
        self.layers: dict[str, Layer] = {}
        shared: dict[str, FakeQuantize] = {}
        for name, site in plan.edges().items():
            if site.params is not None:
                self._add_edge(name, site, shared, learn_offsets)
        for node in hub.nodes():
            weight = weight_of(node)
            planned = None if weight is None else plan.constants().get(weight.name)
            if weight is not None and planned is not None:
                self._add_weight(node, weight, planned, biases.get(str(node.name)))

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the quantized model, in the order of the hub's."""
        return self.graph(*inputs, **named)

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """Some values of the quantized model from others; see `GraphModule.run`."""
        return self.graph.run(feeds, outputs)  # type: ignore[return-value]

    def integers(self, edge: str, x: Tensor) -> Tensor:
        """The integers that stand for the real values of an edge, as float32."""
        return self._scaled[edge].integers(x)

    def real(self, edge: str, integers: Tensor) -> Tensor:
        """The real values that the integers of an edge stand for, float32."""
        return self._scaled[edge].real(integers)

    def quantizers(self) -> list[FakeQuantize]:
        """Every fake quantization once."""
        return [module for module in self.modules() if isinstance(module, FakeQuantize)]

    def plan(self) -> Plan:
        """The plan with the scales, zero points, integers and biases that were learned."""
        sites: dict[str, SitePlan] = {}
        biases: dict[str, NDArray[np.float32]] = {}
        for name, quantize in self.edges.items():
            site = self.source.sites[name]
            sites[name] = replace(site, params=quantize.params(), method=site.method)
        weights = self.graph.weights()
        for layer in self.layers.values():
            name = layer.weight.name
            site = self.source.sites[name]
            assert site.spec is not None
            integers = layer.quantize.integers(weights[name].detach()).cpu().numpy().astype(site.spec.dtype.storage)
            sites[name] = replace(site, params=layer.quantize.quantize.params(), integers=integers)
            if layer.bias is not None:
                bias = weights[layer.bias].detach().cpu().numpy().reshape(-1)
                biases[str(layer.node.name)] = np.asarray(balanced_bias(self.source, layer.node, bias), np.float32)
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
        self.edges[name] = quantize
        self._scaled[name] = Scaled(quantize, factors)
        self.graph.hook(name, self._scaled[name], self._readers(name, site))

    def _readers(self, name: str, site: SitePlan) -> list[str] | None:
        """Whoever reads an edge that is made as integers gets them, its output too."""
        return None if site.readers is None else list(site.readers)

    def _add_weight(self, node: ir.Node, weight: Weight, site: SitePlan, bias: str | None) -> None:
        real = np.asarray(self.hub.constant(weight.value), np.float32)
        parameter = self.graph.weights()[weight.name]
        if site.params is None or site.spec is None or site.spec.codebook or not site.spec.dtype.is_integer:
            fixed = real if site.params is None else effective_weight(self.hub, self.source, node, weight.value)
            if site.params is None and site.spec is not None:
                fixed = real.astype(site.spec.dtype.storage).astype(np.float32)
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(fixed)))
            parameter.requires_grad_(False)
            return
        balanced = balanced_weight(self.hub, self.source, node, weight.value)
        factors = None
        if not np.array_equal(balanced, real):
            with np.errstate(divide="ignore", invalid="ignore"):
                factors = np.where(real != 0.0, balanced / real, 1.0).astype(np.float32)
        nearest = dequantize(integer_weight(self.hub, self.source, node, weight.value), site.params)
        quantize = FakeQuantize(site.params, real.shape, half_scales=stores_float16(site.spec))
        with torch.no_grad():
            step = quantize._expand(quantize.scale()).numpy()
            latent = nearest + np.clip(balanced - nearest, -_WITHIN * step, _WITHIN * step)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(latent if factors is None else latent / factors)))
        scaled = Scaled(quantize, factors)
        self.graph.hook(weight.name, scaled, [str(node.name)])
        self.layers[str(node.name)] = Layer(node, weight, scaled, bias)
        if bias is not None and self._adds_to_sums(node):
            self._round_bias(node, bias, quantize)

    def _adds_to_sums(self, node: ir.Node) -> bool:
        """Whether a node's bias is stored in integers: wide products have no integer kernel unless their output has."""
        if self.source.nodes[str(node.name)].form != "integer" or node.op_type not in ("Conv", "Gemm"):
            return False
        source = scaled_source(self.hub, self.source, data_inputs(node)[0])
        if source is None or source[0].spec is None or source[0].site.name not in self.edges:
            return False
        return node.op_type == "Conv" or source[0].spec.dtype.bits <= 8 or made_site(self.source, node) is not None

    def _round_bias(self, node: ir.Node, bias: str, weight: FakeQuantize) -> None:
        source, made = scaled_source(self.hub, self.source, data_inputs(node)[0]), made_site(self.source, node)
        assert source is not None
        sums = Sums(self.edges[source[0].site.name], source[1], weight, 1 if node.op_type == "Conv" else -1)
        scaled = None if made is None else self._scaled.get(made.site.name)
        self.graph.hook(bias, SumBias(sums, scaled))
        if scaled is not None:
            scaled.sums = sums
