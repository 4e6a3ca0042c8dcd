"""A quantized module against ONNX Runtime, layer by layer: each is fed with the runtime's own integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from fewbit.formats.onnx.lower import lower_with_views
from fewbit.plan.wiring import data_inputs, made_site, scaled_source
from fewbit.runtimes.onnxruntime import open_session
from fewbit.torchgraph.exact import exact_layer, is_exact
from fewbit.torchgraph.quantized import QuantizedGraph
from fewbit.torchgraph.write_back import write_back

Feed = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Layer:
    """A node: how many integers it made, and how many of them come out otherwise by fake quantization and by exact integers
    (None for an operator that has none)."""

    node: str
    op: str
    integers: int
    fake: int
    exact: int | None


def layers(quantized: QuantizedGraph, feed: Feed) -> Iterator[Layer]:
    """Every node of the graph that makes integers from integers."""
    hub, plan = write_back(quantized)
    model, views = lower_with_views(hub, plan)
    seen = integers(model, views, feed)
    for node in hub.nodes():
        made = made_site(plan, node) if plan.nodes[str(node.name)].form == "integer" else None
        read = {str(v.name): scaled_source(hub, plan, v) for v in data_inputs(node)}
        if made is None or made.site.name not in seen or any(s is None or n not in seen for n, s in read.items()):
            continue
        expected = seen[made.site.name].double()
        with torch.no_grad():
            values = quantized.run(
                {n: quantized.edges[s[0].site.name].real(seen[n]) * s[1] for n, s in read.items() if s},
                [made.site.name],
            )
            fake = quantized.edges[made.site.name].integers(values[made.site.name])
        exact = None
        if is_exact(hub, plan, node):
            exact = int((exact_layer(hub, plan, node, seen[next(iter(read))]) != expected).sum())
        yield Layer(str(node.name), node.op_type, expected.numel(), int((fake.double() != expected).sum()), exact)


def integers(model: ir.Model, views: Mapping[str, str], feed: Feed) -> dict[str, Tensor]:
    """The integers that the runtime's kernels make, by the names of the edges that they stand for."""
    made = {o.name: o for node in model.graph for o in node.outputs}
    model.graph.outputs.extend(made[name] for name in sorted(set(views.values())) if not made[name].is_graph_output())
    session = open_session(model)
    given = dict(zip(session.outputs, session.run(feed), strict=True))
    return {edge: torch.from_numpy(given[name]) for edge, name in views.items()}
