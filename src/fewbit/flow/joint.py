"""Ranges that are searched together: a search over exported models, and the check that it was worth it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from fewbit.core.stats import TensorStats
from fewbit.errors import VerificationError
from fewbit.flow.formats import ModelFormat
from fewbit.flow.outputs import OutputJudge
from fewbit.graph.hub import Hub
from fewbit.plan.plan import Plan
from fewbit.progress import Progress
from fewbit.runtimes.onnxruntime import Feed
from fewbit.stages.joint_ranges import MOST_EVALUATIONS, Choice, JointRanges, search

# With 16 samples to judge by, what was found for DS-CNN with 4-bit activations kept 11.4 to 15.1 dB on others, as the samples
# were; with 64 of them 14.5.
_JUDGING, _CONFIRMING = 64, 32
SAMPLES = _JUDGING + _CONFIRMING
"""So many are made use of."""


def search_jointly(
    hub: Hub,
    plan: Plan,
    stats: Mapping[str, TensorStats],
    feeds: Sequence[Feed],
    *,
    corrected: Callable[[Plan], Plan],
    rounded: Callable[[Plan], Plan],
    lower: Callable[[Plan], ir.Model],
    format: ModelFormat,
    ignore: Collection[str],
    progress: Progress,
) -> Plan:
    """The plan whose `joint` ranges are chosen by the outputs of the exported model on most of the samples, if on the others
    (32, or two thirds of few), with its weights rounded, it is better than that of least squared errors.

    Args:
        plan: with the parameters of its edges. stats: of them. feeds: a few samples.
        corrected: gives a plan its other numbers; rounded: its integers. lower: the model of a plan, in a format.
        ignore: outputs that do not count.
    """
    ranges = JointRanges(hub, plan, stats)
    count = max(len(feeds) - _CONFIRMING, len(feeds) // 3)
    judging, confirming = feeds[:count], feeds[count:]
    if not ranges.start or not judging:
        why = "3 samples are needed to judge them" if ranges.start else "there are none of integers that could change"
        plan = rounded(corrected(ranges.plain(why)))
        return replace(plan, notes=(*plan.notes, f"ranges are not searched jointly: {why}; least squared errors kept"))
    judge = OutputJudge(hub, judging, format, ignore)
    with progress.task("searching ranges jointly", MOST_EVALUATIONS) as advance:

        def noise(choice: Choice) -> float:
            advance(1)
            try:
                return float(10 ** (-judge.sqnr(lower(corrected(ranges.plan_of(choice)))) / 10))
            except VerificationError:  # NaN or infinity in the outputs
                return float("inf")

        choice = search(ranges.start, noise)
    plain = rounded(corrected(ranges.plain("no other ranges were better for the outputs")))
    found = rounded(corrected(ranges.plan_of(choice)))
    judge = OutputJudge(hub, confirming, format, ignore)
    before, after = (judge.sqnr(lower(p)) for p in (plain, found))
    if after > before:
        return found
    note = f"ranges found jointly are no better on other samples ({before:.1f} dB, {after:.1f} dB with them)"
    return replace(plain, notes=(*plain.notes, f"{note}: least squared errors kept"))


def not_searched(hub: Hub, plan: Plan) -> Plan:
    """A plan without quantized activations, whose weights keep least squared errors where a search was asked for."""
    ranges = JointRanges(hub, plan, {})
    if not ranges.weights:
        return plan
    plan = ranges.plain("no activations are quantized")
    note = "range joint did nothing: it searches the ranges of activations, and of weights beside them, and none is quantized"
    return replace(plan, notes=(*plan.notes, f"{note}; least squared errors kept"))
