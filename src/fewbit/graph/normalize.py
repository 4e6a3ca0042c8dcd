"""Bring a hub into the form that the rest of fewbit works on."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome
from fewbit.graph.rules import (
    drop_noops,
    drop_unused,
    flush_denormals,
    fold_affine,
    fold_batch_norm,
    fold_constants,
    fold_hard_sigmoid,
    fold_pad,
    fold_shapes,
    fold_transpose,
    inline_constants,
    inline_functions,
    inline_if,
    inputs_to_constants,
    matmul_to_gemm,
    merge_reshapes,
    merge_transposes,
    reciprocal,
    upgrade_opset,
)
from fewbit.graph.shapes import infer_shapes

PREPARE: tuple[ModuleType, ...] = (
    inputs_to_constants,
    inline_functions,
    upgrade_opset,
    inline_constants,
    drop_unused,
)
"""Rules that run first, once, in this order; they need no shapes."""

DEFAULT_RULES: tuple[ModuleType, ...] = (
    drop_noops,
    fold_shapes,
    fold_constants,
    inline_if,
    inline_constants,
    merge_reshapes,
    merge_transposes,
    fold_transpose,
    matmul_to_gemm,
    reciprocal,
    fold_batch_norm,
    fold_affine,
    fold_hard_sigmoid,
    fold_pad,
    drop_unused,
)
"""Rules that run in this order, again and again until none has anything to do."""

FINISH: tuple[ModuleType, ...] = (flush_denormals,)
"""Rules that run last, once."""

_MOST_ROUNDS = 8


def normalize(
    hub: Hub,
    *,
    prepare: Sequence[ModuleType] = PREPARE,
    rules: Sequence[ModuleType] = DEFAULT_RULES,
    finish: Sequence[ModuleType] = FINISH,
) -> None:
    """Apply the rules in place and infer shapes. What each did, and what it declined and why, is in `hub.log`.

    The model computes the same up to float rounding (relative 1e-5). Doing it twice changes nothing more.
    """
    for rule in prepare:
        hub.record(rule.apply(hub))
    infer_shapes(hub.model)
    declined: list[RuleOutcome] = []
    for _ in range(_MOST_ROUNDS):
        declined = []
        changed = False
        for rule in rules:
            outcomes = rule.apply(hub)
            applied = [o for o in outcomes if o.applied]
            hub.record(applied)
            declined += [o for o in outcomes if not o.applied]
            changed = changed or bool(applied)
        if not changed:
            break
        hub.rename()
        infer_shapes(hub.model)
    hub.record(declined)
    for rule in finish:
        hub.record(rule.apply(hub))
