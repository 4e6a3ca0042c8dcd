"""Share: sites that must have one scale become one group.

A Concat that only moves integers needs its inputs at one scale: they are calibrated as one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbit.graph.hub import Hub
from fewbit.plan.plan import NodePlan, SitePlan
from fewbit.plan.wiring import data_inputs


def share(
    hub: Hub, plans: Mapping[str, NodePlan], sites: Mapping[str, SitePlan], origin: Mapping[str, str]
) -> dict[str, SitePlan]:
    """The sites, with `group` set where sites share a scale."""
    parent = {name: name for name in sites}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in hub.nodes():
        if node.op_type == "Concat" and plans[str(node.name)].form == "passthrough":
            names = [origin.get(str(v.name), str(v.name)) for v in data_inputs(node)]
            for name in names[1:]:
                parent[root(name)] = root(names[0])
    sizes: dict[str, int] = {}
    for name in sites:
        sizes[root(name)] = sizes.get(root(name), 0) + 1
    return {name: replace(site, group=root(name)) if sizes[root(name)] > 1 else site for name, site in sites.items()}
