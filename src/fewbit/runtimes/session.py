"""What every runtime gives for a loaded model, and how its words become a message of one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]
Outputs = list[NDArray[Any]]
Ends = dict[str, tuple[np.dtype[Any] | None, list[int | str | None]]]
"""Name → (dtype, None where it is no plain tensor; shape, sizes that may be anything a name or None), in the file's order."""


class Session(Protocol):
    """One loaded model. `inputs` and `outputs` are its names, in order."""

    @property
    def inputs(self) -> Sequence[str]: ...

    @property
    def outputs(self) -> Sequence[str]: ...

    def run(self, feed: Feed) -> Outputs:
        """All outputs in order, for a feed with at least the model's inputs; the arrays are the caller's to keep.

        Raises:
            DataError: the feed does not fit, or the runtime refuses it.
        """

    def timed(self, feed: Feed) -> Callable[[], object]:
        """One run as a latency means it: what a program does once for its data is done before.

        Raises:
            DataError: as `run`.
        """

    def input_shapes(self) -> Ends: ...

    def output_shapes(self) -> Ends: ...


def one_line(error: BaseException) -> str:
    """The words of a runtime, which may be pages."""
    return " ".join(str(error).split())[:400]
