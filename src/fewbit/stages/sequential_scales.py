"""Scales of a layer's weight by the error that they leave at its output, given the inputs of the quantized model.

Sequential MSE of the AI Model Efficiency Toolkit; the search is `fewbit.core.weights.sequential_mse`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fewbit.core.affine import expand_blocks
from fewbit.core.floats import float16_scales
from fewbit.core.weights.rows import rows_to_weight, weight_rows
from fewbit.core.weights.sequential_mse import sequential_mse_params
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.plan.plan import Plan
from fewbit.spec import QParams, QSpec
from fewbit.stages.scale_weights import SEQUENTIAL, stores_float16


def sequential_scales(w: NDArray[np.floating], gram: NDArray[np.float64], params: QParams, weight: Weight) -> QParams:
    """Scales and zero points of least expected squared output error; the given ones where `searchable` says no.

    Args:
        w: (G, O / G, K), as `weight_rows` gives it. gram: (G, K, K), E[x̂ x̂ᵀ] of the inputs in the same order.
        params: of the weight, by whichever method.
    """
    spec, axes = params.spec, (weight.out_axis, weight.in_axis)
    if not searchable(weight, spec):
        return params
    order, block = _blocks(params, weight)
    rows = replace(spec, block_shape=block)
    found = [
        sequential_mse_params(part[:, order].astype(np.float32), rows, square[np.ix_(order, order)])
        for part, square in zip(w, gram, strict=True)
    ]
    shape = params.scale.shape
    if not shape:
        return replace(found[0], spec=spec)
    scale, zero = (np.stack([getattr(p, name) for p in found]) for name in ("scale", "zero_point"))
    if stores_float16(spec):
        scale = float16_scales(scale)
    return QParams(spec, rows_to_weight(scale, shape, *axes), rows_to_weight(zero, shape, *axes))


def searchable(weight: Weight, spec: QSpec) -> bool:
    """Whether scales of this format can be searched: each belongs to one output channel, or all weights are of one group, and
    nothing else limits the integers."""
    return spec.pair_limit is None and (not spec.per_tensor or weight.groups == 1)


def unsearched(hub: Hub, plan: Plan, rounded: Collection[str]) -> list[str]:
    """The weights that ask for such scales and do not get them.

    Args:
        rounded: names of the nodes whose weights are rounded by their outputs.
    """
    done = set()
    for node in hub.nodes():
        weight = weight_of(node)
        spec = None if weight is None or weight.name not in plan.sites else plan.sites[weight.name].spec
        if weight is not None and spec is not None and str(node.name) in rounded and searchable(weight, spec):
            done.add(weight.name)
    return [name for name, site in plan.constants().items() if site.method == SEQUENTIAL and name not in done]


def _blocks(params: QParams, weight: Weight) -> tuple[NDArray[np.intp], tuple[int, ...]]:
    """The order of the columns of a weight's rows in which those of one block are together (the taps of a convolution lie
    between its groups of inputs), and the block shape in that order."""
    scale = params.scale
    if not scale.ndim:
        return np.arange(_columns(weight)), ()
    count = scale.shape[weight.in_axis]
    if count == 1:
        return np.arange(_columns(weight)), (1, -1)
    shape = [1] * scale.ndim
    shape[weight.in_axis] = count
    number = np.broadcast_to(np.arange(count).reshape(shape), scale.shape)
    whole = np.broadcast_to(expand_blocks(number, weight.shape, params.spec.block_shape), weight.shape)
    column = weight_rows(whole, weight.out_axis, weight.in_axis, weight.groups)[0, 0]
    return np.argsort(column, kind="stable"), (1, int((column == column[0]).sum()))


def _columns(weight: Weight) -> int:
    return int(np.prod(weight.shape)) // weight.shape[weight.out_axis]
