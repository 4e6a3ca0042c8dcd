"""Plain data about a hub: tensors at its ends, and what a rule did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int | str | None, ...]
"""A size for each axis: an int when known, a name when symbolic (`N`), None when nothing is known."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model.

    dtype: numpy's; object for strings, None when it is not a plain tensor (sequence, optional) or unknown.
    shape: None when even the rank is unknown.
    """

    name: str
    dtype: np.dtype | None
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What a normalization rule did to a node, or why it declined.

    rule: the rule's name.
    node: the node's name, or a tensor's, or empty for the whole model.
    reason: what was done, or why not.
    """

    rule: str
    node: str
    applied: bool
    reason: str
