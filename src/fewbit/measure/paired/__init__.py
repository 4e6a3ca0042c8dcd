"""Paired comparisons of a quantized model with the float one: drops, their bounds, and verdicts."""

from __future__ import annotations

from fewbit.measure.paired.drop import Drop, paired_drop, unbounded_drop
from fewbit.measure.paired.hopeless import hopeless, unit_losses
from fewbit.measure.paired.units import per_sample, takes_long
from fewbit.measure.paired.verdict import Verdict, judge

__all__ = [
    "Drop",
    "Verdict",
    "hopeless",
    "judge",
    "paired_drop",
    "per_sample",
    "takes_long",
    "unbounded_drop",
    "unit_losses",
]
