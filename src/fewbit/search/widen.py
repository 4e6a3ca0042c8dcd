"""Which few layers to keep wider, to lose the most noise for the bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_SHARE = 0.05  # of a recipe's noise: a layer that brings less is not worth a rule of its own
_MOST = 5  # layers in advice: a person writes them into a recipe
_ENOUGH = 6.0  # dB: a quarter of the noise is left
_WORTH_IT = 1.0  # dB that the advice must gain at least


@dataclass(frozen=True, slots=True)
class Widening:
    """Layers of a recipe to keep in the format of the recipe `to` (None: in float).

    before, after: dB at the outputs, by sums of noises. bytes: more in the file (fewer where negative). work: their share of
    the multiplications.
    """

    recipe: str
    to: str | None
    layers: tuple[str, ...]
    before: float
    after: float
    bytes: int
    work: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "to": self.to,
            "layers": list(self.layers),
            "before_db": self.before,
            "after_db": self.after,
            "bytes": self.bytes,
            "work": self.work,
        }


def widen(
    recipe: str,
    to: str | None,
    names: Sequence[str],
    noise: Sequence[float],
    wide_noise: Sequence[float],
    more_bytes: Sequence[int],
    work: Sequence[float],
) -> Widening | None:
    """The layers that lose the most noise for a byte, until 6 dB are gained or five are named; None where they gain less than
    1 dB.

    Noises add up, so the order by noise lost for a byte is that of the greedy rule for the knapsack problem (Dantzig 1957,
    "Discrete-variable extremum problems"). Layers that bring less than a twentieth of the noise are left out.

    Args:
        noise, wide_noise: of each layer, noise over signal (power), in the recipe and in the wider format.
        more_bytes: of the wider format.
    """
    total = sum(noise)
    least = 1e-12  # of the signal, beyond what float32 shows
    lost = np.subtract(noise, wide_noise)
    worth = [i for i in range(len(names)) if lost[i] > _SHARE * total]
    order = sorted(worth, key=lambda i: (-lost[i] / max(more_bytes[i], 1), names[i]))
    chosen: list[int] = []
    left = total
    for i in order[:_MOST]:
        if 10 * np.log10(total / max(left, least)) >= _ENOUGH:
            break
        chosen.append(i)
        left -= float(lost[i])
    before, after = (-10 * float(np.log10(max(n, least))) for n in (total, left))
    if after - before < _WORTH_IT:
        return None
    return Widening(
        recipe,
        to,
        tuple(names[i] for i in chosen),
        before,
        after,
        int(sum(more_bytes[i] for i in chosen)),
        float(sum(work[i] for i in chosen)),
    )
