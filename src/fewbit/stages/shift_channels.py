"""Shift: edges whose channels lie in different places are moved together, so that their range shrinks.

Every channel of a linear edge is centred (Wei et al. 2023, "Outlier Suppression+", equation 3). The channels of a Relu that
never reach zero lose what they always have (the high-bias absorption of Nagel et al. 2019, section 4.1.3, with the smallest
value seen in place of an estimate from batch normalization); a channel that a Clip cuts off above stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from fewbit.core.balance import channel_shift
from fewbit.core.stats import TensorStats
from fewbit.graph.facts import clip_bounds
from fewbit.graph.hub import Hub
from fewbit.graph.rewrites.shift_channels import maker_of, refuse_reader
from fewbit.plan.plan import Plan, Rewrite, SitePlan
from fewbit.stages.balance import weighted_readers

_LEAST_GAIN, _LEAST_GAIN_ADDED = 1.0, 3.0  # dB; the second where it takes an addition at every run


def channel_shifts(
    hub: Hub, plan: Plan, stats: Mapping[str, TensorStats], grids: Collection[str] = ()
) -> tuple[Rewrite, ...]:
    """The shifts that pay.

    Args:
        plan: resolved for this hub. stats: of its edges.
        grids: inputs whose values are whole steps: they stay.
    """
    values = {str(v.name): v for v in hub.values()}
    chosen = []
    for name, site in plan.edges().items():
        seen = stats.get(name)
        if seen is None or seen.channel_axis is None or seen.channel_min.size < 2 or site.group is not None:
            continue
        if name in grids:
            continue
        value = values[name]
        readers = weighted_readers(plan, value, site)
        if readers is None or any(refuse_reader(hub, node, value) is not None for node in readers):
            continue
        rewrite = _shift(hub, value, site, readers, seen)
        if rewrite is not None:
            chosen.append(rewrite)
    return tuple(chosen)


def _shift(hub: Hub, value: ir.Value, site: SitePlan, readers: list[ir.Node], seen: TensorStats) -> Rewrite | None:
    last = readers[0].op_type != "Conv"
    names = {str(node.name) for node in readers}
    alone = all(str(node.name) in names for node in value.consumers()) and not value.is_graph_output()
    maker = maker_of(hub, value, seen.channel_min.size, last=last) if alone else None
    if maker is None and site.readers is None:
        return None  # made by an integer kernel that has no bias
    producer = value.producer()
    bounds = None if producer is None or maker is None else clip_bounds(producer)
    shift, gain = channel_shift(seen.channel_min, seen.channel_max, bounds or (-np.inf, np.inf))
    if gain < (_LEAST_GAIN if maker is not None else _LEAST_GAIN_ADDED):
        return None
    where = f"the bias of {maker.name}" if maker is not None else "an addition before its quantizer"
    reason = f"its range shrinks by {gain:.1f} dB; shifted by {where}"
    return Rewrite("shift", str(value.name), shift.astype(np.float32), reason, tuple(sorted(names)))
