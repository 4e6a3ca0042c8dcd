"""Recipe + graph + target → plan, before calibration: the four passes in order."""

from __future__ import annotations

from dataclasses import replace

from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.legalize import legalize
from fewbit.plan.place import place
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe, Setting
from fewbit.plan.select import select
from fewbit.plan.share import share
from fewbit.spec import DType
from fewbit.targets import Target


def resolve(hub: Hub, recipe: Recipe, target: Target) -> Plan:
    """A plan whose sites have formats and reasons, and no numbers yet.

    Raises:
        RecipeError: a rule matches nothing.
    """
    nodes = [
        (
            str(node.name),
            node.op_type,
            [str(node.name), *(str(o.name) for o in node.outputs)],
            weight_of(node) is not None,
        )
        for node in hub.nodes()
    ]
    settings = {name: _as_target_has(setting, target) for name, setting in recipe.settings(nodes).items()}
    forms = select(hub, settings, target)
    sites, origin = place(hub, forms, settings, target)
    sites = legalize(hub, forms, share(hub, forms, sites, origin), target)
    return Plan(hub.fingerprint(), target.name, recipe.name, sites, forms)


def _as_target_has(setting: Setting, target: Target) -> Setting:
    """A setting with activations of the kind that the target's kernels take, of as many bits."""
    activation = setting.activation
    if not activation.dtype.is_integer:
        return setting
    dtype = DType(target.activations, activation.dtype.bits)
    symmetric = activation.symmetric or (dtype.kind == "int" and dtype.bits > 8)
    return replace(setting, activation=replace(activation, dtype=dtype, symmetric=symmetric))
