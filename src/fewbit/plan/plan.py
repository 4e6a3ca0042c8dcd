"""The plan: one entry for every site and every node, with the numbers and the reason of each choice. Plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.spec import QParams, QSpec, Site
from fewbit.targets.schema import Form

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class SitePlan:
    """What happens at one site.

    spec: the format, or None where the site stays float.
    params: scale and zero point, None until the ranges are chosen (and for float formats).
    method: how the range was chosen.
    readers: names of the nodes that read the quantized value; None when every reader does, because the value is made as
        integers.
    group: sites of one group share scale and zero point.
    channel_axis: the axis whose means and ranges calibration keeps apart.
    bounds: (low, high) that the range may not exceed, from an absorbed activation or a function's own range.
    through: the saturating function that alone reads the value, if there is one (a name of
        `fewbit.core.ranges.through.FUNCTIONS`): the range is chosen for what comes out of it.
    balance: for an edge, factors by which its channels are divided before they are quantized; for the weights that read it,
        the same factors, by which their input channels (`channel_axis`) are multiplied.
    integers: for a constant, the integers that a rounding algorithm chose; None: every value becomes the nearest.
    """

    site: Site
    spec: QSpec | None
    reason: str
    params: QParams | None = None
    method: str = ""
    readers: tuple[str, ...] | None = None
    group: str | None = None
    channel_axis: int | None = None
    bounds: tuple[float, float] | None = None
    through: str = "identity"
    balance: NDArray[np.float32] | None = None
    integers: NDArray[np.integer] | None = None


@dataclass(frozen=True, slots=True)
class NodePlan:
    """How one node computes, and why.

    weight: the site of its weight. absorbs: the last of the nodes that it swallows (a bias, an activation function).
    bias_correction: whether the mean error of its weights is taken off its bias.
    """

    node: str
    op: str
    form: Form
    reason: str
    weight: str | None = None
    absorbs: str | None = None
    bias_correction: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rewrite:
    """A change of the float graph that leaves what it computes as it is.

    kind: a name of `fewbit.plan.rewrites.REWRITES`. value: the edge that it concerns. numbers: float32, one a channel: what
    `shift` takes off it, what `awq` divides it by, or the signs of the rotation of `rotate`. readers: of a shift or of `awq`,
    the nodes that read it changed.
    """

    kind: str
    value: str
    numbers: NDArray[np.float32]
    reason: str
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A recipe resolved for one graph and one target.

    biases: float32 biases that replace those of the nodes they are named after (bias correction).
    rewrites: done to the graph first, in order; sites and nodes are those of the rewritten graph, the fingerprint that of
        the graph before.
    calibration: what the numbers were taken from: `samples` (how many), `source`, `batch`, perhaps `one_by_one`; and, where
        no real data was seen, `synthetic`: what the samples were made from.
    """

    fingerprint: str
    target: str
    recipe: str
    sites: Mapping[str, SitePlan]
    nodes: Mapping[str, NodePlan]
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def edges(self) -> dict[str, SitePlan]:
        """Activation sites that are quantized."""
        return {k: s for k, s in self.sites.items() if s.site.kind == "edge" and s.spec is not None}

    def constants(self) -> dict[str, SitePlan]:
        """Weight sites that are stored narrow."""
        return {k: s for k, s in self.sites.items() if s.site.kind == "constant" and s.spec is not None}

    def with_sites(self, sites: Mapping[str, SitePlan]) -> Plan:
        return replace(self, sites={**self.sites, **sites})

    def forms(self) -> Counter[str]:
        return Counter(node.form for node in self.nodes.values())

    def save(self, path: str) -> None:
        """Write JSON at `path` and the arrays beside it; see `fewbit.plan.io`."""
        from fewbit.plan.io import save

        save(self, path)

    @staticmethod
    def load(path: str) -> Plan:
        """Read what `save` wrote.

        Raises:
            PlanError: malformed, of an unknown version, or its arrays are missing or changed.
        """
        from fewbit.plan.io import load

        return load(path)
