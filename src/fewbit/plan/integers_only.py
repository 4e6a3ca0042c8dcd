"""What keeps a plan from being integers throughout, for targets that compute with nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewbit.errors import ModelError, PlanError, RecipeError
from fewbit.graph.hub import Hub
from fewbit.plan.plan import NodePlan, Plan
from fewbit.plan.recipe import Setting
from fewbit.plan.select import FLOAT_INPUTS
from fewbit.plan.wiring import is_constant, is_float
from fewbit.spec import INT8
from fewbit.targets import Target

_FORMS = ("integer", "passthrough", "absorbed")
_NAMED = 3
_ACTIVATION_BITS = (8, 16)
# They look at no number, and what follows from fixed sizes is folded when the file is written.
_SIZES = ("Shape", "Size")


def check_integers_only(hub: Hub, plan: Plan, target: Target, settings: Mapping[str, Setting] | None = None) -> None:
    """Nothing if every node of a plan computes with the integers that the target takes, or the target takes floats too.

    Args:
        settings: what the recipe says of each node; None where the plan was given.

    Raises:
        ModelError: nodes that the recipe means to be integers cannot be.
        RecipeError: the recipe leaves nodes in float, or has weights or activations of other widths.
        PlanError: the same, of a plan that was given.
    """
    if not target.integers_only:
        return
    left = _in_float(hub, plan)
    remedy = f"use recipe {' or '.join(target.recipes)}, and exclude nothing"
    if left and settings is not None and all(settings[n.node].compute == "integer" for n in left):
        raise ModelError(
            f"{target.name} computes with integers alone, and {_told(left)} cannot: replace it in the model, or use target "
            "litert-cpu, which computes it in float"
        )
    if left:
        asked = left if settings is None else [n for n in left if settings[n.node].compute != "integer"]
        message = (
            f"{plan.recipe} leaves {_told(asked, 1)} in float, and {target.name} computes with integers alone; {remedy}"
        )
        raise PlanError(f"the plan for {message}") if settings is None else RecipeError(f"recipe {message}")
    wrong = _other_width(plan)
    if wrong is not None:
        message = (
            f"{plan.recipe} has {wrong}, and {target.name} takes int8 weights and activations of 8 or 16 bits; {remedy}"
        )
        raise PlanError(f"the plan for {message}") if settings is None else RecipeError(f"recipe {message}")


def _in_float(hub: Hub, plan: Plan) -> list[NodePlan]:
    """The nodes that compute with floats, in topological order."""
    found = []
    for node in hub.nodes():
        decision = plan.nodes.get(str(node.name))
        if decision is None or decision.form in _FORMS or node.op_type in _SIZES:
            continue
        reads = [value for value in node.inputs if value is not None and not is_constant(value)]
        if any(map(is_float, (*reads, *node.outputs))):
            found.append(decision)
    # A node that only follows another one in float is no cause.
    causes = [n for n in found if n.reason not in FLOAT_INPUTS]
    return causes or found


def _told(nodes: Sequence[NodePlan], most: int = _NAMED) -> str:
    shown = "; ".join(f"{n.op} {n.node!r} ({n.reason})" for n in nodes[:most])
    return shown + (f" and {len(nodes) - most} more" if len(nodes) > most else "")


def _other_width(plan: Plan) -> str | None:
    """Weights or activations of a width that no kernel of the target has, in words, or None."""
    weights = {node.weight for node in plan.nodes.values()}
    for name, site in plan.sites.items():
        if site.spec is not None and name in weights and site.spec.dtype != INT8:
            return f"{site.spec.dtype} weights ({name})"
        if site.spec is not None and site.site.kind == "edge" and site.spec.dtype.bits not in _ACTIVATION_BITS:
            return f"{site.spec.dtype} activations ({name})"
    return None
