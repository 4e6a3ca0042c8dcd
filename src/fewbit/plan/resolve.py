"""Recipe + graph + target → plan, before calibration: the four passes in order."""

from __future__ import annotations

from fewbit.graph.hub import Hub
from fewbit.graph.ops import weight_of
from fewbit.plan.legalize import legalize
from fewbit.plan.place import place
from fewbit.plan.plan import Plan
from fewbit.plan.recipe import Recipe
from fewbit.plan.select import select
from fewbit.plan.share import share
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
    settings = recipe.settings(nodes)
    forms = select(hub, settings, target)
    sites, origin = place(hub, forms, settings, target)
    sites = legalize(hub, forms, share(hub, forms, sites, origin))
    return Plan(hub.fingerprint(), target.name, recipe.name, sites, forms)
