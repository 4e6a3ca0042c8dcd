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
from fewbit.plan.written import with_biases
from fewbit.stages.scale_weights import stores_float16
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.module import OUTPUT, GraphModule, to_torch

_WITHIN = 0.49  # of a step: latent weights start so near to the integers of the plan that they round to them


class Scaled(nn.Module):
    """Fake quantization of a tensor in balanced units: multiplied by factors before, divided by them after."""

    factors: Tensor | None

    def __init__(self, quantize: FakeQuantize, factors: NDArray[np.float32] | None) -> None:
        super().__init__()
        self.quantize = quantize
        self.register_buffer("factors", None if factors is None else torch.from_numpy(np.array(factors, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        if self.factors is None:
            return self.quantize(x)
        return self.quantize(x * self.factors) / self.factors

    def integers(self, x: Tensor) -> Tensor:
        """The integers that stand for x, as float32."""
        return self.quantize.integers(x if self.factors is None else x * self.factors)


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
        self.layers: dict[str, Layer] = {}
        shared: dict[str, FakeQuantize] = {}
        for name, site in plan.edges().items():
            if site.params is not None:
                self._add_edge(name, site, shared, learn_offsets)
        for node in hub.nodes():
            weight = weight_of(node)
            site = None if weight is None else plan.constants().get(weight.name)
            if weight is not None and site is not None:
                self._add_weight(node, weight, site, biases.get(str(node.name)))

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the quantized model, in the order of the hub's."""
        return self.graph(*inputs, **named)

    def run(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
        """Some values of the quantized model from others; see `GraphModule.run`."""
        return self.graph.run(feeds, outputs)  # type: ignore[return-value]

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
        self.graph.hook(name, Scaled(quantize, factors), self._readers(name, site))

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
