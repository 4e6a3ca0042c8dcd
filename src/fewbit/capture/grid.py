"""Inputs that are integers in disguise: pixels or features on a uniform grid, which 8 bits hold without any error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]

_LOOKED_AT = 8  # samples whose every value must lie on the grid
_TOLERANCE = 1e-3  # of a step: float32 rounding of the preprocessing


class GridFinder:
    """Watches feeds pass by and remembers which inputs lie on a grid k·step through zero."""

    def __init__(self, names: Iterable[str], levels: int = 256) -> None:
        self.levels = levels
        self.steps: dict[str, float] = dict.fromkeys(names, 0.0)
        self._seen = 0

    def watch(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """The same feeds, looked at on their way."""
        for feed in feeds:
            if self._seen < _LOOKED_AT:
                self._seen += 1
                for name in list(self.steps):
                    step = _step(np.asarray(feed[name]), self.steps[name], self.levels)
                    if step is None:
                        del self.steps[name]
                    else:
                        self.steps[name] = step
            yield feed

    def found(self) -> dict[str, float]:
        """Input name → step."""
        return {name: step for name, step in self.steps.items() if step > 0.0}


def _step(values: NDArray[Any], known: float, levels: int) -> float | None:
    """The step of a grid that holds all values, not wider than the known one (0: unknown); None if there is none."""
    if values.dtype != np.float32 or not values.size:
        return None
    step = known
    if step == 0.0:
        distinct = np.unique(values.reshape(-1)[:: max(1, values.size // 8192)])
        if not 1 < distinct.size <= levels:
            return 0.0 if distinct.size <= 1 else None
        step = float(np.diff(distinct.astype(np.float64)).min())
        if np.abs(distinct).max() > levels * step:
            return None
        # A mean over many steps is more exact than one difference.
        span = round(float(distinct[-1] - distinct[0]) / step)
        step = float(distinct[-1] - distinct[0]) / span
    multiples = values.astype(np.float64) / step
    return step if float(np.abs(multiples - np.rint(multiples)).max()) < _TOLERANCE else None
