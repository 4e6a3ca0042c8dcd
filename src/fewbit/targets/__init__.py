"""Targets as data: one file each, and one line in the table."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from fewbit.errors import RecipeError
from fewbit.targets.executorch_xnnpack import EXECUTORCH_XNNPACK
from fewbit.targets.litert_cpu import LITERT_CPU
from fewbit.targets.litert_micro import LITERT_MICRO
from fewbit.targets.ort_cpu import ORT_CPU, ORT_CPU_AVX2, ORT_CPU_VNNI
from fewbit.targets.schema import Form, OpRule, Target

__all__ = ["TARGETS", "Form", "OpRule", "Target", "for_machine", "get_target"]

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (ORT_CPU, ORT_CPU_AVX2, ORT_CPU_VNNI, LITERT_CPU, LITERT_MICRO, EXECUTORCH_XNNPACK)
}


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        RecipeError: no such target; the message lists them.
    """
    if name in TARGETS:
        return TARGETS[name]
    close = get_close_matches(name, TARGETS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise RecipeError(f"target {name!r} does not exist: {hint}`fewbit targets list` shows {', '.join(TARGETS)}")


def for_machine(target: Target, *, vnni: bool | None) -> Target:
    """`ort-cpu` means this machine: without VNNI its weights must not saturate 16 bits (vnni None: not x86, they cannot)."""
    if target.name == "ort-cpu" and vnni is False:
        x86 = ORT_CPU_AVX2
        return replace(target, weight_bits=x86.weight_bits, pair_limit=x86.pair_limit, facts=x86.facts)
    return target
