"""Ranges judged by their readers: of several estimates of an edge's range, the one whose error is least in the outputs of the
layers that read it.

The error is measured with the rounded weights of those layers, and without the mean that bias correction takes off it. (The
layer-wise step of Nahshan et al. 2021, "Loss Aware Post-Training Quantization", section 4.1, which minimizes the error of the
tensor itself; here it is the error of what is made of it.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.capture.range_errors import Question, Reader, ReaderError
from fewbit.core.ranges.judged import PLAIN, best_candidate, centred_error
from fewbit.core.stats import TensorStats
from fewbit.graph.facts import Pattern, find_patterns
from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.balanced import effective_weight
from fewbit.plan.plan import Plan, SitePlan
from fewbit.plan.wiring import is_float
from fewbit.spec import QParams
from fewbit.stages.choose_ranges import bounded_range
from fewbit.stages.correct_bias import corrected

_PLAIN_METHOD = "mse"
_OTHERS = ("minmax", "percentile", "entropy")
_MOST_BITS = 8  # with more, no range is bad enough to tell


def questions(hub: Hub, plan: Plan, stats: Mapping[str, TensorStats]) -> list[Question]:
    """What has to be measured: for every edge whose range is to be judged, the one it has and the others.

    Args:
        plan: with the parameters of its edges and constants.
        stats: of the edges, as `choose_ranges` was given them.
    """
    values = {str(v.name): v for v in hub.values()}
    patterns = {pattern.input: pattern for pattern in find_patterns(hub)}
    asked = []
    for name, site in plan.edges().items():
        if site.method != "auto" or site.params is None or site.group is not None:
            continue
        if site.params.spec.dtype.bits > _MOST_BITS or values[name].is_graph_output():
            continue
        readers, between = _readers(hub, plan, values[name], site, patterns)
        candidates = _candidates(site, site.params, stats[name])
        if readers and len(candidates) > 1:
            axis = site.channel_axis if site.channel_axis is not None else 1
            balance = None if site.balance is None else (axis, site.balance)
            asked.append(Question(name, candidates, balance, readers, between))
    return asked


def judge_ranges(plan: Plan, asked: Sequence[Question], errors: Mapping[str, Sequence[ReaderError]]) -> Plan:
    """The plan with the ranges that lose least at their readers; every site's method is then that of its range.

    Every other sample chooses, the rest confirm.
    """
    chosen = unjudged(plan, f"{_PLAIN_METHOD}: no reader's output tells other ranges apart").edges()
    for question in asked:
        choosing, confirming = (_noise(errors[question.edge], half) for half in (0, 1))
        best = best_candidate(choosing, confirming)
        method = list(question.candidates)[best]
        site = plan.sites[question.edge]
        reason = f"{site.reason}; no other range is better for its readers"
        if best != PLAIN:
            gain = 10 * np.log10(confirming[PLAIN] / max(confirming[best], 1e-30))
            reason = f"{site.reason}; its readers get {gain:.1f} dB less noise than from {_PLAIN_METHOD}"
        chosen[question.edge] = replace(site, params=question.candidates[method], method=method, reason=reason)
    return plan.with_sites(chosen)


def unjudged(plan: Plan, why: str) -> Plan:
    """The plan whose ranges that were left to readers stay what they are, for this reason."""
    return plan.with_sites(
        {
            name: replace(site, method=_PLAIN_METHOD, reason=f"{site.reason}; {why}")
            for name, site in plan.edges().items()
            if site.method == "auto"
        }
    )


def _candidates(site: SitePlan, plain: QParams, seen: TensorStats) -> dict[str, QParams]:
    """Parameters that differ, by the method that gives them, the plain one first."""
    found = {_PLAIN_METHOD: plain}
    for method in _OTHERS:
        params = bounded_range(seen, plain.spec, method, [site.bounds])
        if all(_numbers(params) != _numbers(other) for other in found.values()):
            found[method] = params
    return found


def _numbers(params: QParams) -> tuple[float, int]:
    return float(params.scale), int(params.zero_point)


def _readers(
    hub: Hub, plan: Plan, value: ir.Value, site: SitePlan, patterns: Mapping[ir.Value, Pattern]
) -> tuple[list[Reader], list[str]]:
    """The nodes whose outputs count, and those on the way to them: moves, and functions spelled out in several nodes. None
    where a reader's output cannot be compared."""
    readers: list[Reader] = []
    between: set[ir.Node] = set()
    waiting = [value]
    while waiting:
        read = waiting.pop()
        pattern = patterns.get(read)
        if pattern is not None and all(node in pattern.nodes for node in read.consumers()):
            between.update(pattern.nodes)
            waiting.append(pattern.output)
            continue
        for node in dict.fromkeys(read.consumers()):
            name = str(node.name)
            if read is value and site.readers is not None and name not in site.readers:
                continue
            if name not in plan.nodes or len(node.outputs) != 1:
                return [], []  # inside a subgraph, or of several outputs
            if not is_float(node.outputs[0]):
                continue  # a shape, an index: rounding is not seen there
            if plan.nodes[name].form == "passthrough":
                between.add(node)
                waiting.append(node.outputs[0])
            else:
                readers.append(_reader(hub, plan, node))
    return readers, [str(node.name) for node in hub.nodes() if node in between]


def _reader(hub: Hub, plan: Plan, node: ir.Node) -> Reader:
    name, weight = str(node.name), weight_of(node)
    if weight is None or weight.name not in plan.sites or plan.sites[weight.name].params is None:
        return Reader(name)
    rounded = weight.index, effective_weight(hub, plan, node, weight.value)
    return Reader(name, rounded, weight.channel_axis if corrected(plan, node) else None)


def _noise(errors: Sequence[ReaderError], half: int) -> NDArray[np.float64]:
    """Noise-to-signal ratio of every candidate (C,), summed over the readers, on every other sample."""
    total: NDArray[np.float64] = np.zeros(())
    for error in errors:
        known = error.mean[::2].mean(0)  # as little as the choice may the correction know of the other half
        noise = centred_error(error.mean[half::2], error.square[half::2], known)
        total = total + noise.mean(0) / max(float(error.signal[half::2].mean()), 1e-30)
    return total
