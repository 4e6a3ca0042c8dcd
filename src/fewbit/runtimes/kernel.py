"""One kernel that a runtime executes for a file, cut out as a file of its own, so that it can be timed alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.runtimes.session import Feed

_DIGITS = 24  # of the digest: 96 bits, which no table has two of by chance


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel.

    digest: of all that its time depends on: operator, attributes, sizes and dtypes, and not the values of weights.
    op: the operator, in the runtime's words. names: by which nodes and values of the graph can be found that it computes,
    its own first.
    model: the file. feed: inputs of the sizes and dtypes that it has in the whole model.
    """

    digest: str
    op: str
    names: Sequence[str]
    model: bytes = field(repr=False)
    feed: Feed = field(repr=False)


def kernel_digest(op: str, attributes: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    """The digest of a kernel, of plain data: attributes as the file has them, (dtype, sizes, whether constant) of each end."""
    text = json.dumps([op, attributes, inputs, outputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
