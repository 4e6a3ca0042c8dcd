"""The rewrites of a plan: what is done to the float graph, in order, before the plan's sites are those of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fewbit.core.rotation import rotation
from fewbit.errors import PlanError
from fewbit.graph.hub import Hub
from fewbit.graph.rewrites import rotate_stream, scale_channels, shift_channels
from fewbit.plan.plan import Rewrite


def _shift(hub: Hub, rewrite: Rewrite) -> None:
    shift_channels.apply(hub, rewrite.value, np.asarray(rewrite.numbers, np.float64), rewrite.readers)


def _rotate(hub: Hub, rewrite: Rewrite) -> None:
    rotate_stream.apply(hub, rotation(rewrite.numbers))


def _awq(hub: Hub, rewrite: Rewrite) -> None:
    scale_channels.apply(hub, rewrite.value, np.asarray(rewrite.numbers, np.float64), rewrite.readers)


REWRITES: dict[str, Callable[[Hub, Rewrite], None]] = {"shift": _shift, "rotate": _rotate, "awq": _awq}
"""By name, as recipes and plans have them."""


def rewritten(hub: Hub, rewrites: Sequence[Rewrite]) -> Hub:
    """A copy of the hub with the rewrites applied; the hub itself where there are none.

    Raises:
        PlanError: a rewrite that does not exist.
    """
    if not rewrites:
        return hub
    from fewbit.graph.shapes import infer_shapes

    copy = hub.clone()
    for rewrite in rewrites:
        if rewrite.kind not in REWRITES:
            raise PlanError(f"rewrite {rewrite.kind!r} of the plan does not exist; use one of {', '.join(REWRITES)}")
        REWRITES[rewrite.kind](copy, rewrite)
    copy.rename()
    infer_shapes(copy.model)
    return copy
