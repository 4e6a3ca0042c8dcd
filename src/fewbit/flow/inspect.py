"""Inspect a model: what it is made of, what normalization did, and what a recipe would do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit.flow.common import target_for
from fewbit.flow.opening import load
from fewbit.graph.info import RuleOutcome
from fewbit.graph.load import find_quantization
from fewbit.plan.io import to_dict
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.resolve import resolve


@dataclass(frozen=True, slots=True)
class InspectResult:
    """A model's ends, ops, parameters and rules applied; with a recipe, the plan before calibration."""

    path: str
    opset: int
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    ops: Mapping[str, int]
    parameters: int
    weight_bytes: int
    quantized: str | None
    rules: Sequence[RuleOutcome]
    plan: Plan | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "opset": self.opset,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "ops": dict(self.ops),
            "parameters": self.parameters,
            "weight_bytes": self.weight_bytes,
            "quantized": self.quantized,
            "rules": [{"rule": r.rule, "node": r.node, "applied": r.applied, "reason": r.reason} for r in self.rules],
            "plan": None if self.plan is None else to_dict(self.plan),
        }


def inspect(
    model: str | Path | Any,
    *,
    recipe: str | None = None,
    target: str = "ort-cpu",
    plan: str | Path | None = None,
    exclude: Sequence[str] = (),
) -> InspectResult:
    """Describe a model (a path, or a model in memory), and the plan that a recipe makes of it (or a stored plan).

    Raises:
        InputError: wrong model, recipe, target or plan.
    """
    hub = load(model)
    shown = None
    if plan is not None:
        shown = Plan.load(str(plan))
    elif recipe is not None:
        shown = resolve(hub, Recipe.get(recipe).excluding(exclude), target_for(target))
    tensors = [v.const_value for v in hub.graph.initializers.values() if v.const_value is not None]
    floats = [t for t in tensors if t.dtype.is_floating_point()]
    return InspectResult(
        str(model) if isinstance(model, str | Path) else str(hub.graph.name),
        hub.opset,
        [_info(i) for i in hub.inputs],
        [_info(o) for o in hub.outputs],
        dict(Counter(node.op_type for node in hub.nodes()).most_common()),
        sum(t.size for t in floats),
        sum(t.nbytes for t in floats),
        find_quantization(hub),
        hub.log,
        shown,
    )


def _info(info: Any) -> dict[str, Any]:
    return {"name": info.name, "dtype": str(info.dtype), "shape": None if info.shape is None else list(info.shape)}
