"""Learning rates that suit all layers: in units of what is learned."""

from __future__ import annotations

import math

from fewbit.torchgraph.quantized import Layer, QuantizedGraph


def cosine(rate: float, done: float) -> float:
    """A rate on its way to zero (Loshchilov and Hutter 2017, equation 5); done: within 0..1."""
    return 0.5 * rate * (1.0 + math.cos(math.pi * done))


def bias_size(model: QuantizedGraph, layer: Layer) -> float:
    """The mean size of a layer's biases; of its weights where there are none."""
    weights = model.graph.weights()
    assert layer.bias is not None
    return float(weights[layer.bias].detach().abs().mean()) or float(weights[layer.weight.name].detach().abs().mean())
