"""Rounding: the integers of a weight chosen by the error of its layer's output, not by its own.

Each layer is rounded when all before it are: it sees the inputs that the quantized model has. What upstream errors and
clipped ranges changed in the mean goes into the bias. Weights of few bits are also asked for the outputs that the float
model has (the asymmetric calibration of Li et al. 2025, "GPTAQ", equation 5); with 7 or 8 bits the errors of the inputs are
mostly rounding of activations, which no weight can foresee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.stepwise import Decisions, Feed, Stepwise
from fewbit.core.affine import dequantize, expand_blocks
from fewbit.core.floats import float16_scales
from fewbit.core.stats import TensorStats
from fewbit.core.weights.adaround import adaround
from fewbit.core.weights.descent import output_error
from fewbit.core.weights.gptq import gptq
from fewbit.core.weights.moments import Moments, shrunk
from fewbit.core.weights.refine import refine_scales
from fewbit.core.weights.rows import Window, dense_rows, patch_rows, rows_to_weight, weight_rows
from fewbit.core.weights.scales import weight_params
from fewbit.graph.facts import bias_add, bias_index
from fewbit.graph.hub import Hub
from fewbit.graph.ops import Weight, weight_of
from fewbit.graph.windows import convolution_window
from fewbit.plan.balanced import balanced_weight, effective_bias, effective_weight, input_balance
from fewbit.plan.plan import Plan
from fewbit.plan.wiring import node_bias
from fewbit.spec import QParams, QSpec
from fewbit.stages.correct_bias import corrected_bias
from fewbit.stages.scale_weights import SEQUENTIAL, stores_float16
from fewbit.stages.sequential_scales import sequential_scales

_RIDGES = (1.0, 0.1, 0.01)  # of the mean diagonal: how little the samples are trusted to move weights
_OPS = ("Conv", "Gemm", "MatMul")
_HELD_BYTES = 64 << 20
_LARGEST_GRAM = 4096**2  # elements of a Gram matrix: 128 MB each, of which there are up to eight at a time
_FEW_BITS = 6  # at most so many, and the errors of inputs are those of weights
# Input vectors for each input of a layer, and for a layer; errors of few bits are larger, so they need better estimates.
_ROWS, _LEAST_ROWS = 8, 1024
_MORE_ROWS = 8
# AdaRound: multiplications that may be spent on a layer (a few seconds), and iterations, below which it gains nothing over
# GPTQ with coordinate descent.
_LEARNING, _LEAST_ITERATIONS, _MOST_ITERATIONS = 1e11, 400, 1000


def rounded_nodes(hub: Hub, plan: Plan, *, all_bits: bool = True) -> list[ir.Node]:
    """The nodes whose weights can be rounded by their outputs, in topological order; those of few bits and those that ask for
    scales by their outputs, or all."""
    nodes = [node for node in hub.nodes() if _can_round(hub, plan, node)]
    return [node for node in nodes if all_bits or _few_bits(plan, node) or _method(plan, node) == SEQUENTIAL]


def not_rounded(hub: Hub, plan: Plan) -> list[str]:
    """The weights of few bits, in the layers that multiply, that keep the nearest integers."""
    can = {str(node.name) for node in rounded_nodes(hub, plan, all_bits=False)}
    found = []
    for node in hub.nodes():
        name = plan.nodes[str(node.name)].weight
        spec = plan.sites[name].spec if name is not None else None
        integers = spec is not None and spec.dtype.is_integer and spec.codebook is None
        if integers and node.op_type != "Gather" and _few_bits(plan, node) and str(node.name) not in can:
            found.append(str(name))
    return list(dict.fromkeys(found))


def weight_size(node: ir.Node) -> int:
    """How many weights a node has."""
    weight = weight_of(node)
    return 0 if weight is None else int(np.prod(weight.shape))


def _can_round(hub: Hub, plan: Plan, node: ir.Node) -> bool:
    decision, weight = plan.nodes[str(node.name)], weight_of(node)
    if (
        weight is None
        or decision.weight is None
        or decision.form not in ("integer", "dynamic", "weight_only", "storage")
    ):
        return False
    site = plan.sites[decision.weight]
    if site.params is None or site.spec is None or not site.spec.dtype.is_integer or len(weight.value.uses()) > 1:
        return False
    if site.spec.codebook is not None:  # its integers are not evenly spaced
        return False
    if weight.groups * _inputs(weight) ** 2 > _LARGEST_GRAM:
        return False
    if node.op_type == "Conv":
        return convolution_window(hub, node) is not None
    return node.op_type in _OPS and weight.index == 1 and len(weight.shape) == 2


def _inputs(weight: Weight) -> int:
    """How many inputs an output of a layer has."""
    return int(np.prod(weight.shape)) // weight.shape[weight.out_axis]


def _few_bits(plan: Plan, node: ir.Node) -> bool:
    spec = plan.sites[str(plan.nodes[str(node.name)].weight)].spec
    return spec is not None and spec.dtype.bits <= _FEW_BITS


def _method(plan: Plan, node: ir.Node) -> str:
    return plan.sites[str(plan.nodes[str(node.name)].weight)].method


class LayerInputs:
    """Gathers the moments of one node's inputs, those of many samples by one matrix product, and their channel means."""

    def __init__(self, hub: Hub, plan: Plan, node: ir.Node, samples: int) -> None:
        weight = weight_of(node)
        assert weight is not None  # rounded_nodes asked
        inputs = _inputs(weight)
        rows = max(_ROWS * inputs, _LEAST_ROWS) * (_MORE_ROWS if _few_bits(plan, node) else 1)
        self.groups, self.positions = weight.groups, -(-rows // samples)
        self.window: Window | None = convolution_window(hub, node) if node.op_type == "Conv" else None
        self.halves = Moments(weight.groups, inputs), Moments(weight.groups, inputs)
        self.turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0))
        self.balance = input_balance(plan, node)
        self.count = 0
        self.waiting: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self.held = 0
        self._mean: NDArray[np.float64] | float = 0.0
        self._moved: NDArray[np.float64] | float = 0.0

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each channel of the float input."""
        return np.asarray(self._mean / max(self.count, 1))

    @property
    def moved(self) -> NDArray[np.float64]:
        """How far quantization moves those means."""
        return np.asarray(self._moved / max(self.count, 1))

    def add(self, real: NDArray[np.float32], quantized: NDArray[np.float32]) -> None:
        """One sample's first input, in float and as it is quantized."""
        if self.turned:
            real, quantized = real.T, quantized.T
        axes = (0, *range(2, real.ndim)) if self.window is not None else tuple(range(real.ndim - 1))
        mean = real.mean(axes, dtype=np.float64)
        self._mean += mean
        self._moved += quantized.mean(axes, dtype=np.float64) - mean
        rows = self._rows(real)
        self.waiting.append((rows, rows if quantized is real else self._rows(quantized)))
        self.held += 2 * rows.nbytes
        self.count += 1
        if self.held > _HELD_BYTES:
            self._flush()

    def finish(self) -> tuple[Moments, Moments]:
        """The moments of every other sample, and of the rest."""
        self._flush()
        return self.halves

    def _flush(self) -> None:
        for half, moments in enumerate(self.halves):
            mine = self.waiting[half::2]
            if not mine:
                continue
            real = np.concatenate([a for a, _ in mine], 1)
            same = all(a is b for a, b in mine)
            moments.add(real, real if same else np.concatenate([b for _, b in mine], 1))
        self.waiting, self.held = [], 0

    def _rows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        rng = np.random.default_rng(self.count)  # the same places in both
        if self.balance is not None:
            axis = 1 if self.window is not None else x.ndim - 1
            x = x / self.balance.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        if self.window is not None:
            return patch_rows(x, self.window, self.groups, self.positions, rng)
        return dense_rows(x, self.positions, rng)


def round_weight(
    hub: Hub,
    plan: Plan,
    node: ir.Node,
    inputs: LayerInputs,
    mean: NDArray[np.float64] | None = None,
    *,
    thorough: bool = False,
) -> Plan:
    """The plan with the integers of a node's weight, and its bias, chosen for these inputs.

    Args:
        mean: of each channel of the float input, where more samples tell than `inputs` has seen.
        thorough: try AdaRound too, where it takes seconds.
    """
    weight = weight_of(node)
    assert weight is not None
    site = plan.sites[str(weight.value.name)]
    params, spec = site.params, site.spec
    assert params is not None and spec is not None
    real = balanced_weight(hub, plan, node, weight.value)
    axes = weight.out_axis, weight.in_axis
    w = weight_rows(real, *axes, weight.groups).astype(np.float64)
    halves = inputs.finish()
    moments, centred = halves[0] + halves[1], node_bias(hub, node) is not None
    gram, cross = moments.second(centred=centred)
    trusted = shrunk(gram, moments.count)
    if _few_bits(plan, node):
        w = _target(w, halves, gram, cross, centred=centred)
        params, q = _round_few(w, trusted, params, weight, site.method, thorough=thorough)
    else:
        if site.method == SEQUENTIAL:
            params = sequential_scales(w, trusted, params, weight)
        scale, zero = (_expanded(a, weight, spec) for a in (params.scale, params.zero_point))
        q = gptq(w, trusted, scale, zero, spec.qmin, spec.qmax, pair_limit=spec.pair_limit)
    integers = rows_to_weight(q, real.shape, *axes).astype(spec.dtype.storage)
    plan = plan.with_sites({site.site.name: replace(site, integers=integers, params=params)})
    bias = corrected_bias(hub, plan, node, weight, inputs.mean if mean is None else mean, inputs.moved)
    return plan if bias is None else replace(plan, biases={**plan.biases, str(node.name): bias})


def _expanded(values: NDArray, weight: Weight, spec: QSpec) -> NDArray:
    """Scales or zero points of blocks, for every element of a weight, in rows."""
    whole = np.broadcast_to(expand_blocks(values, weight.shape, spec.block_shape), weight.shape)
    return weight_rows(whole, weight.out_axis, weight.in_axis, weight.groups)


def _round_few(
    w: NDArray[np.float64], gram: NDArray[np.float64], params: QParams, weight: Weight, method: str, *, thorough: bool
) -> tuple[QParams, NDArray[np.float32]]:
    """Scales and integers (G, O / G, K) of a weight of few bits; scales of the least squared error count inputs by energy,
    those of sequential MSE stay as they are."""
    spec, axes = params.spec, (weight.out_axis, weight.in_axis)
    if method == "mse":
        energy = np.broadcast_to(np.einsum("gii->gi", gram)[:, None], w.shape)
        values, importance = (rows_to_weight(a, weight.shape, *axes) for a in (w.astype(np.float32), energy))
        params = weight_params(values, spec, importance=importance)
    elif method == SEQUENTIAL:
        params = sequential_scales(w, gram, params, weight)
    scale, zero = (_expanded(a, weight, spec) for a in (params.scale, params.zero_point))
    q = gptq(w, gram, scale, zero, spec.qmin, spec.qmax)
    blocks = params.scale.shape[weight.in_axis] if params.scale.ndim else 1
    # The taps of a convolution lie between its groups of inputs: their columns are not together.
    together = blocks == 1 or w.shape[-1] == weight.shape[weight.in_axis]
    if spec.per_tensor or not together:
        return params, q
    scale, zero = (weight_rows(a, *axes, weight.groups) for a in (params.scale, params.zero_point))
    group = spec.block_shape[weight.in_axis] if blocks > 1 else None
    if method != SEQUENTIAL:
        q, scale = refine_scales(w, q, gram, scale, zero, spec.qmin, spec.qmax, group=group)
    if stores_float16(spec):
        scale = float16_scales(scale)
    if thorough and weight.groups == 1:
        rows = QParams(replace(spec, block_shape=(1, group or -1)), scale[0], zero[0])
        q = _learned(w[0].astype(np.float32), q[0], rows, gram[0])[None]
    return replace(params, scale=rows_to_weight(scale, params.scale.shape, *axes)), q


def _learned(
    w: NDArray[np.float32], q: NDArray[np.float32], params: QParams, gram: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Integers (O, K) of which each output channel is that of AdaRound where its error is less."""
    iterations = int(_LEARNING / (2 * w.size * w.shape[1]))
    if iterations < _LEAST_ITERATIONS:
        return q
    learned = adaround(w, params, gram, iterations=min(iterations, _MOST_ITERATIONS))
    errors = [output_error(dequantize(a, params) - w, gram) for a in (q, learned)]
    return np.where((errors[1] < errors[0])[:, None], learned, q).astype(np.float32)


def _target(
    w: NDArray[np.float64],
    gathered: Sequence[Moments],
    gram: NDArray[np.float64],
    cross: NDArray[np.float64],
    *,
    centred: bool,
) -> NDArray[np.float64]:
    """The real weights w* that with the quantized inputs come closest to the float outputs: argmin ‖w x - w* x̂‖² + λ
    ‖w* - w‖². Few samples would mislead a layer of many inputs, so that λ is taken which, fitted on half of the
    samples, does best on the other half; where none beats w itself, that stays."""
    if cross is gram:
        return w
    best, least = None, 0.0
    (fit_gram, fit_cross), (gram2, cross2) = (m.second(centred=centred) for m in gathered)
    for ridge in _RIDGES:
        change = _solve(w, fit_gram, fit_cross, ridge) - w
        # ‖w x - (w + d) x̂‖² less ‖w x - w x̂‖², on the other half
        error = np.sum((change @ gram2) * (change + 2 * w)) - 2 * np.sum((w @ cross2) * change)
        if error >= least:
            break
        best, least = ridge, error
    return w if best is None else _solve(w, gram, cross, best)


def _solve(
    w: NDArray[np.float64], gram: NDArray[np.float64], cross: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    energy = np.einsum("gii->g", gram) / gram.shape[-1]
    extra = np.where(energy > 0.0, ridge * energy, 1.0)[:, None]
    index = np.arange(gram.shape[-1])
    left, right = gram.copy(), w @ cross + w * extra[..., None]
    left[:, index, index] += extra
    if len(w) > 1:
        return np.asarray(np.linalg.solve(left, right.transpose(0, 2, 1)).transpose(0, 2, 1), np.float64)
    from scipy.linalg import solve

    return np.asarray(
        solve(left[0], right[0].T, assume_a="pos", overwrite_a=True, overwrite_b=True).T[None], np.float64
    )


def round_weights(
    hub: Hub,
    plan: Plan,
    nodes: Sequence[ir.Node],
    feeds: Iterable[Feed],
    stats: Mapping[str, TensorStats],
    *,
    thorough: bool = False,
    threads: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> Plan:
    """The plan with the weights of some nodes rounded by their layers' outputs, one layer after another.

    Args:
        nodes: of those that `rounded_nodes` gives, in that order.
        feeds: a few samples. stats: channel means from more of them, by value name, where there are some.
        thorough: try AdaRound too, in layers where it takes seconds. advance: called with 1 after each layer.
    """
    decisions = _decisions(hub, plan, {str(node.name) for node in nodes})
    with Stepwise(hub, feeds, threads) as run:
        for node in nodes:
            run.step([node], decisions)
            inputs = LayerInputs(hub, plan, node, run.samples)
            for real, quantized in run.inputs_of(node, decisions):
                inputs.add(real, quantized)
            seen = stats.get(str(node.inputs[0].name))  # type: ignore[union-attr]
            mean = seen.channel_mean if seen is not None and seen.channel_mean.size == inputs.mean.size else None
            plan = round_weight(hub, plan, node, inputs, mean, thorough=thorough)
            _decide(decisions, hub, plan, node)
            advance(1)
    return plan


def _decisions(hub: Hub, plan: Plan, undecided: set[str]) -> Decisions:
    """What the plan does, but for the weights of some nodes."""
    decisions = Decisions()
    values = {str(v.name): v for v in hub.values()}
    for name, site in plan.edges().items():
        if site.params is None or site.params.spec.dtype.bits > 8:
            continue  # 16 bits add nothing to be made good
        axis = site.channel_axis if site.channel_axis is not None else 1
        balance = None if site.balance is None else (axis, site.balance)
        if site.readers is None:
            decisions.made[name] = (site.params, balance)
        else:
            decisions.read[name] = (site.params, balance, site.readers)
    for name, site in plan.constants().items():
        reader = next((node for node in values[name].consumers() if str(node.name) in plan.nodes), None)
        if site.params is not None and reader is not None and str(reader.name) not in undecided:
            decisions.constants[name] = effective_weight(hub, plan, reader, values[name])
    return decisions


def _decide(decisions: Decisions, hub: Hub, plan: Plan, node: ir.Node) -> None:
    """Add what the plan decided about one node."""
    weight, bias = weight_of(node), effective_bias(plan, node)
    assert weight is not None
    decisions.constants[weight.name] = effective_weight(hub, plan, node, weight.value)
    add = bias_add(node) if node.op_type == "MatMul" else None
    if bias is not None and add is not None:
        held = add.inputs[bias_index(add, node)]
        decisions.constants[str(held.name)] = bias  # type: ignore[union-attr]
    elif bias is not None:
        decisions.biases[str(node.name)] = bias
