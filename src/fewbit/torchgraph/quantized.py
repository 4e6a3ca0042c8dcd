"""A plan as a torch module: the hub with every site fake-quantized as planned, and what was learned back in a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbit.core.quant import dequantize
from fewbit.core.weights.pairs import pair_bounds
from fewbit.core.weights.rows import rows_to_weight, weight_rows
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.balanced import balanced, balanced_bias, balanced_weight, integer_weight, output_balance
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import data_inputs, made_site, scaled_source
from fewbit.plan.written import with_biases
from fewbit.spec import QSpec
from fewbit.stages.scale_weights import stores_float16
from fewbit.torchgraph.elementwise import IntegerPair
from fewbit.torchgraph.fake_quantize import FakeQuantize
from fewbit.torchgraph.module import GraphModule, to_torch
from fewbit.torchgraph.scaled import RoundedBias, Scaled, ScaledWeight, Sums

# Of a step. Latent weights start at most so far from the integers of the plan: those that were not rounded to the nearest
# would otherwise start where the first updates move them back (the loss of ResNet-20 at 2 bits rose several times over in
# 15 updates at 0.49).
_WITHIN = 0.25
_BIAS_FORMS = ("integer", "dynamic", "weight_only", "storage")  # whose biases the lowering takes from the plan


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A node whose weight is learned: the names of its weight and bias in the graph, and the site's quantization. Layers
    that share a weight share its quantization."""

    node: ir.Node
    weight: Weight
    quantize: ScaledWeight
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
        weights: dict[str, ScaledWeight] = {}
        for node in hub.nodes():
            weight = weight_of(node)
            site = None if weight is None else plan.constants().get(weight.name)
            if weight is not None and site is not None and _learned(site):
                self._add_weight(node, weight, site, biases.get(str(node.name)), weights)
        for name, held in plan.constants().items():
            if name not in weights:
                self._fix(name, held)
        for node in hub.nodes():
            self._add_pair(node)

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the quantized model, in the order of the hub's."""
        return self.graph(*inputs, **named)  # type: ignore[no-any-return]

    def learned(self) -> set[str]:
        """Names of the weights that have a step to learn."""
        return {layer.weight.name for layer in self.layers.values()}

    def settle(self, layer: Layer) -> None:
        """Move the latent weights of a layer to the integers that they are rounded to, and end soft rounding."""
        weight = self.graph.weights()[layer.weight.name]
        with torch.no_grad():
            weight.copy_(layer.quantize.latent(layer.quantize.integers(weight)))
        layer.quantize.soft = None

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
            bounded = [s for s in self._group(site) if s.bounds is not None]
            quantize = FakeQuantize(
                site.params,
                elements=int(np.prod(elements)) or 1,
                learn_offset=learn_offsets and not bounded,
                limit=min((limit for s in bounded if (limit := _limit(s)) is not None), default=None),
            )
            if site.group is not None:
                shared[site.group] = quantize
        factors = None
        if site.balance is not None:
            value, axis = self.hub.value(name), 1 if site.channel_axis is None else site.channel_axis
            rank = len(self.hub.shape(value) or ())
            factors = 1.0 / site.balance.reshape([-1 if a == axis % rank else 1 for a in range(rank)])
        self.edges[name] = Scaled(quantize, factors)
        self.graph.hook(name, self.edges[name], site.readers)

    def _group(self, site: SitePlan) -> list[SitePlan]:
        """The sites that share scale and zero point with one."""
        edges = self.source.edges().values()
        return [site] if site.group is None else [s for s in edges if s.group == site.group]

    def _add_weight(
        self, node: ir.Node, weight: Weight, site: SitePlan, bias: str | None, added: dict[str, ScaledWeight]
    ) -> None:
        """Hook a weight that is learned; a bias of the node is learned with it where the lowering takes it."""
        assert site.params is not None
        form = self.source.nodes[str(node.name)].form
        if weight.name not in added:
            real = np.asarray(self.hub.constant(weight.value), np.float32)
            factors = balanced(self.source, node, weight, np.ones_like(real))
            integers = integer_weight(self.hub, self.source, node, weight.value)
            nearest = dequantize(integers, site.params)
            # the scales of a weight that an integer kernel reads are float32 in the file
            half = form != "integer" and stores_float16(site.params.spec) and _is_half(site.params.scale)
            bounds = _bounds(weight, integers, site.params.spec)
            quantize = FakeQuantize(site.params, real.shape, half_scales=half, bounds=bounds)
            with torch.no_grad():
                step = np.broadcast_to(quantize.expand(quantize.scale()).numpy(), real.shape)
                off = balanced_weight(self.hub, self.source, node, weight.value) - nearest
                latent = (nearest + np.clip(off, -_WITHIN * step, _WITHIN * step)) / factors
                self.graph.weights()[weight.name].copy_(torch.from_numpy(np.ascontiguousarray(latent)))
            added[weight.name] = ScaledWeight(quantize, factors if (factors != 1.0).any() else None)
        scaled = added[weight.name]
        self.graph.hook(weight.name, scaled, [str(node.name)])
        self.graph.weights()[weight.name].requires_grad_(True)
        if bias is not None and form in _BIAS_FORMS:
            self.graph.weights()[bias].requires_grad_(True)
            sums = self._sums(node, scaled.quantize) if form == "integer" else None
            if sums is not None:
                self.graph.hook(bias, RoundedBias(sums, output_balance(self.source, node)))
                made = made_site(self.source, node)
                if made is not None and made.site.name in self.edges:
                    self.edges[made.site.name].sums = sums
        else:
            bias = None
        self.layers[str(node.name)] = Layer(node, weight, scaled, bias)

    def _sums(self, node: ir.Node, weight: FakeQuantize) -> Sums | None:
        """What an integer kernel adds up, if one computes the node: there is none for more than 8 bits."""
        read = scaled_source(self.hub, self.source, data_inputs(node)[0])
        edge = None if read is None else self.edges.get(read[0].site.name)
        if read is None or edge is None or node.op_type not in ("Conv", "Gemm") or edge.quantize.spec.dtype.bits > 8:
            return None
        return Sums(edge.quantize, read[1], weight, 1 if node.op_type == "Conv" else -1)

    def _add_pair(self, node: ir.Node) -> None:
        """A sum or product of two tensors of 8-bit integers is computed as the kernel does that the runtime has for it."""
        decision = self.source.nodes.get(str(node.name))
        made = None if decision is None or decision.form != "integer" else made_site(self.source, node)
        read = [scaled_source(self.hub, self.source, value) for value in data_inputs(node)]
        if node.op_type not in ("Add", "Mul") or made is None or len(read) != 2:
            return
        edges = [None if r is None else self.edges.get(r[0].site.name) for r in (*read, (made, 1.0))]
        if any(e is None or e.factors is not None or e.quantize.spec.dtype.bits > 8 for e in edges):
            return
        one, two, output = (e.quantize for e in edges if e is not None)
        factors = [r[1] for r in read if r is not None]
        op: Literal["Add", "Mul"] = "Add" if node.op_type == "Add" else "Mul"
        kernel = IntegerPair(op, ((one, factors[0]), (two, factors[1])), output)
        self.graph.set_kernel(str(node.name), kernel)

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
            held.data.copy_(torch.from_numpy(np.array(fixed).reshape(held.shape)))


def _bounds(
    weight: Weight, integers: NDArray[np.integer], spec: QSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """What the integers of a weight may become so that no pair saturates in a kernel that adds pairs in 16 bits."""
    if spec.pair_limit is None:
        return None
    axes = weight.out_axis, weight.in_axis
    rows = weight_rows(integers.astype(np.float32), *axes, weight.groups)
    low, high = pair_bounds(rows, spec.qmin, spec.qmax, spec.pair_limit)
    return rows_to_weight(low, integers.shape, *axes), rows_to_weight(high, integers.shape, *axes)


def _limit(site: SitePlan) -> float | None:
    """The largest scale with which a range still ends where the activation function does that it saturates for."""
    assert site.params is not None and site.bounds is not None
    scale, zero, spec = float(site.params.scale), int(site.params.zero_point), site.params.spec
    ends = [
        bound / steps
        for bound, steps in zip(site.bounds, (spec.qmin - zero, spec.qmax - zero), strict=True)
        if np.isfinite(bound) and steps != 0
    ]
    if not ends:
        return None
    return scale if site.balance is not None else max(scale, *ends)


def _learned(site: SitePlan) -> bool:
    """Whether a weight has affine integers with a step."""
    return site.params is not None and site.params.spec.codebook is None and site.params.spec.dtype.is_integer


def _is_half(scale: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(scale.astype(np.float16).astype(np.float32), scale))
