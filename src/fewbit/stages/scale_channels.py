"""AWQ: input channels that carry large values get finer weights, at the cost of the others.

The weights that read a value are multiplied channel by channel, and what makes it is divided (Lin et al. 2024, "AWQ:
Activation-aware Weight Quantization for LLM Compression and Acceleration", equations 4 and 5). All readers of a value share
one set of factors, chosen by the sum of their output errors, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.stepwise import Decisions, Feed, Stepwise
from fewbit.core.weights.awq import scaled_error, shared_awq_factors
from fewbit.core.weights.moments import shrunk
from fewbit.core.weights.rows import weight_rows
from fewbit.core.weights.scales import WeightRange
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight
from fewbit.graph.rewrites.scale_channels import find_makers, reader_weight
from fewbit.plan.plan import Plan, Rewrite
from fewbit.spec import QSpec
from fewbit.stages.round_weights import LayerInputs

_FORMS = ("weight_only", "storage")  # beside float activations: others are rounded too, and balance is for both


@dataclass(frozen=True, slots=True)
class Scalable:
    """A value whose channels can be divided, the nodes that read it and their weights with formats in rows (O, I)."""

    value: ir.Value
    readers: tuple[ir.Node, ...]
    layers: tuple[tuple[NDArray[np.float32], QSpec], ...]
    method: WeightRange


def scalable_values(hub: Hub, plan: Plan) -> tuple[list[Scalable], dict[str, str]]:
    """The values that narrow weights beside float activations read, in topological order, and why others of them stay.

    Args:
        plan: resolved for this hub.
    """
    found: list[Scalable] = []
    left: dict[str, str] = {}
    for value in dict.fromkeys(
        v for node in hub.nodes() if _spec(plan, node) for v in node.inputs[:1] if v is not None
    ):
        scalable = _scalable(hub, plan, value)
        if isinstance(scalable, str):
            left[str(value.name)] = scalable
        else:
            found.append(scalable)
    return found, left


def channel_factors(
    hub: Hub,
    plan: Plan,
    values: Iterable[Scalable],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Rewrite, ...]:
    """The rewrites of the values whose readers lose less by it.

    Args:
        feeds: a few samples, from which E[x xᵀ] and E[|x|] of the values are taken. advance: called with 1 after each value.
    """
    rewrites = []
    with Stepwise(hub, feeds, threads) as run:
        for scalable in values:
            node = scalable.readers[0]
            run.step([node], Decisions())
            inputs = LayerInputs(hub, plan, node, run.samples)
            size: NDArray[np.float64] = np.zeros(scalable.layers[0][0].shape[1])
            for real, _ in run.inputs_of(node, Decisions()):
                inputs.add(real, real)
                size += np.abs(real).mean(tuple(range(real.ndim - 1)), dtype=np.float64) / run.samples
            halves = inputs.finish()
            moments = halves[0] + halves[1]
            gram = shrunk(moments.second(centred=False)[0], moments.count)[0]
            factors = shared_awq_factors(scalable.layers, gram, size, method=scalable.method)
            advance(1)
            if (factors == 1.0).all():
                continue
            before, after = (
                scaled_error(scalable.layers, gram, s, method=scalable.method) for s in (np.ones_like(factors), factors)
            )
            gain = 10 * np.log10(before / max(after, 1e-30))
            names = tuple(str(reader.name) for reader in scalable.readers)
            reason = f"channels scaled by up to {factors.max():.1f}: its readers lose {gain:.1f} dB less to rounding"
            rewrites.append(Rewrite("awq", str(scalable.value.name), factors, reason, names))
    return tuple(rewrites)


def _scalable(hub: Hub, plan: Plan, value: ir.Value) -> Scalable | str:
    if value.is_graph_output():
        return "it is an output of the model"
    readers, layers, methods = list(dict.fromkeys(value.consumers())), [], set()
    for node in readers:
        weight, spec = reader_weight(node, value), _spec(plan, node)
        if isinstance(weight, str):
            return weight
        if spec is None:
            return f"{node.name} does not read it as floats beside narrow integer weights"
        methods.add(plan.sites[weight.name].method)
        layers.append(_rows(hub, weight, spec))
    channels = layers[0][0].shape[1]
    makers = find_makers(hub, value, channels)
    if isinstance(makers, str):
        return makers
    return Scalable(value, tuple(readers), tuple(layers), "absmax" if methods == {"absmax"} else "mse")


def _spec(plan: Plan, node: ir.Node) -> QSpec | None:
    """The format of a node's weight, if it is one of evenly spaced integers beside float activations."""
    decision = plan.nodes.get(str(node.name))
    if (
        decision is None
        or decision.form not in _FORMS
        or decision.weight is None
        or node.op_type not in ("MatMul", "Gemm")
    ):
        return None
    spec = plan.sites[decision.weight].spec
    return spec if spec is not None and spec.dtype.is_integer and spec.codebook is None else None


def _rows(hub: Hub, weight: Weight, spec: QSpec) -> tuple[NDArray[np.float32], QSpec]:
    """A matrix with one output channel a row, and its format for it."""
    rows = weight_rows(np.asarray(hub.constant(weight.value), np.float32), weight.out_axis, weight.in_axis)[0]
    if spec.per_tensor:
        return rows, spec
    return rows, replace(spec, block_shape=(spec.block_shape[weight.out_axis], spec.block_shape[weight.in_axis]))
