"""Initializers that are also listed as graph inputs become plain constants.

Until IR version 4 every initializer had to be listed so; as an input it could be fed, so nothing may be folded into it.
"""

from __future__ import annotations

from fewbit.graph.hub import Hub
from fewbit.graph.info import RuleOutcome

NAME = "inputs_to_constants"


def apply(hub: Hub) -> list[RuleOutcome]:
    both = [value for value in hub.graph.inputs if value.const_value is not None]
    if not both:
        return []
    keep = [value for value in hub.graph.inputs if value.const_value is None]
    hub.graph.inputs.clear()
    hub.graph.inputs.extend(keep)
    hub.model.ir_version = max(hub.model.ir_version, 4)  # the first that allows an initializer that is no input
    return [RuleOutcome(NAME, str(v.name), True, "an initializer that was listed as an input too") for v in both]
